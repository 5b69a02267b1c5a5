// What a monitoring program in Java does with the admin console: java JdbcConsole URL USER PASSWORD.
// Prints "done" at the end, or throws.
import java.sql.*;
import java.util.Properties;

public class JdbcConsole {
    static void check(boolean condition, String what) {
        if (!condition)
            throw new AssertionError(what);
    }

    static int count(Connection connection, String sql) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(sql);
             ResultSet rows = statement.executeQuery()) {
            int count = 0;
            while (rows.next())
                count++;
            return count;
        }
    }

    static void work(Connection connection, String mode) throws SQLException {
        check(connection.isValid(5), "valid");
        for (int n = 0; n < 8; n++) // from the fifth on the driver uses a named statement and binary results
            check(count(connection, "SHOW POOLS") >= 3, "rows of POOLS");
        try (Statement statement = connection.createStatement();
             ResultSet rows = statement.executeQuery("SHOW STATS")) {
            check(rows.next() && rows.getString("database").contains("@"), "database@pool");
            check(rows.getBigDecimal("total_query_count").signum() >= 0, "a numeric");
        }
        try (Statement statement = connection.createStatement()) {
            statement.setMaxRows(2); // a Query message cannot carry that
            ResultSet rows = statement.executeQuery("SHOW CONFIG");
            check(rows.next() && rows.next() && (!mode.equals("extended") || !rows.next()), "two rows");
        }
        try (Statement statement = connection.createStatement()) {
            statement.execute("PAUSE adhoc");
            statement.execute("RESUME adhoc");
            statement.executeQuery("SHOW NONSENSE");
            check(false, "an error expected");
        } catch (SQLException error) {
            check(error.getSQLState().equals("42601"), error.toString());
        }
        check(count(connection, "SHOW VERSION") == 1, "alive after an error");
        connection.setAutoCommit(false);
        check(count(connection, "SHOW STATE") == 3, "with a BEGIN before");
        connection.commit();
    }

    public static void main(String[] arguments) throws Exception {
        for (String mode : new String[] {"extended", "simple", "extendedForPrepared"}) {
            Properties properties = new Properties();
            properties.setProperty("user", arguments[1]);
            properties.setProperty("password", arguments[2]);
            properties.setProperty("preferQueryMode", mode);
            try (Connection connection = DriverManager.getConnection(arguments[0], properties)) {
                work(connection, mode);
            }
        }
        System.out.println("done");
    }
}
