// Ordinary work with PostgreSQL's JDBC driver: java JdbcWork URL USER PASSWORD MODE.
// Prints "done" at the end, or throws.  In statement mode there are no transactions.
import java.io.StringReader;
import java.sql.*;
import java.util.Properties;
import org.postgresql.PGConnection;
import org.postgresql.copy.CopyManager;

public class JdbcWork {
    static void check(boolean condition, String what) {
        if (!condition)
            throw new AssertionError(what);
    }

    static Connection connect(String[] arguments, String prepareThreshold) throws SQLException {
        Properties properties = new Properties();
        properties.setProperty("user", arguments[1]);
        properties.setProperty("password", arguments[2]);
        properties.setProperty("prepareThreshold", prepareThreshold);
        return DriverManager.getConnection(arguments[0], properties);
    }

    static void work(Connection connection, String mode) throws Exception {
        String table = "jdbc_" + ProcessHandle.current().pid();
        try (Statement statement = connection.createStatement()) {
            statement.execute("CREATE TABLE " + table + " (id int PRIMARY KEY, word text)");
        }
        try {
            try (PreparedStatement insert = connection.prepareStatement(
                     "INSERT INTO " + table + " VALUES (?, ?)")) {
                for (int n = 0; n < 20; n++) {
                    insert.setInt(1, n);
                    insert.setString(2, "wörd " + n);
                    check(insert.executeUpdate() == 1, "one row");
                }
                for (int n = 20; n < 200; n++) {
                    insert.setInt(1, n);
                    insert.setString(2, "batch");
                    insert.addBatch();
                }
                check(insert.executeBatch().length == 180, "a batch");
            }
            try (PreparedStatement select = connection.prepareStatement(
                     "SELECT word FROM " + table + " WHERE id = ?")) {
                for (int n = 0; n < 20; n++) {
                    select.setInt(1, n);
                    try (ResultSet rows = select.executeQuery()) {
                        check(rows.next() && rows.getString(1).equals("wörd " + n), "word " + n);
                    }
                }
            }
            try (Statement statement = connection.createStatement()) {
                statement.executeQuery("SELECT 1/0");
                check(false, "an error expected");
            } catch (SQLException error) {
                check(error.getSQLState().equals("22012"), error.toString());
            }
            if (!mode.equals("statement")) {
                connection.setAutoCommit(false);
                try (Statement statement = connection.createStatement()) {
                    statement.execute("DELETE FROM " + table);
                    connection.rollback();
                    statement.setFetchSize(10);  // a portal, fetched in parts
                    int seen = 0;
                    try (ResultSet rows = statement.executeQuery("SELECT * FROM " + table)) {
                        while (rows.next())
                            seen++;
                    }
                    check(seen == 200, "200 rows: " + seen);
                    connection.commit();
                }
                connection.setAutoCommit(true);
            }
            CopyManager copy = connection.unwrap(PGConnection.class).getCopyAPI();
            check(copy.copyIn("COPY " + table + " FROM STDIN", new StringReader("900\ta\n901\tb\n")) == 2,
                  "two rows copied in");
            DatabaseMetaData metadata = connection.getMetaData();
            try (ResultSet columns = metadata.getColumns(null, "public", table, null)) {
                check(columns.next() && columns.getString("COLUMN_NAME").equals("id"), "metadata");
            }
            check(connection.isValid(5), "isValid");
        } finally {
            try (Statement statement = connection.createStatement()) {
                statement.execute("DROP TABLE " + table);
            }
        }
    }

    public static void main(String[] arguments) throws Exception {
        // named statements from the first use on; and never
        for (String threshold : new String[] {"1", "0", "5"}) {
            try (Connection connection = connect(arguments, threshold)) {
                work(connection, arguments[3]);
            }
        }
        System.out.println("done");
    }
}
