// JDBC on a shared pool: java JdbcSharing URL USER PASSWORD many CLIENTS | habits.  Prints "done" at the end, or throws.
// `many`: clients with the driver's defaults, all connected at once.  `habits`: named statements that meet a changed
// table and lost backends; it says "kill" when it wants its backends to be ended, and goes on at the next line of input.
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.sql.*;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.*;

public class JdbcSharing {
    static void check(boolean condition, String what) {
        if (!condition)
            throw new AssertionError(what);
    }

    static String ask(PreparedStatement statement, int number) throws SQLException {
        statement.setInt(1, number);
        try (ResultSet rows = statement.executeQuery()) {
            check(rows.next(), "a row");
            return rows.getString(1);
        }
    }

    static Void work(Connection connection, int number) throws SQLException {
        try (PreparedStatement select = connection.prepareStatement("SELECT name FROM things WHERE id = ?")) {
            for (int n = 1; n <= 8; n++)  // the driver names the statement from the fifth time on
                check(ask(select, number + n).equals("thing " + (number + n)), "thing " + (number + n));
        }
        connection.setAutoCommit(false);
        connection.setReadOnly(true);
        try (Statement statement = connection.createStatement()) {
            statement.executeQuery("SELECT 1").close();
        }
        connection.commit();
        connection.setReadOnly(false);
        connection.setAutoCommit(true);
        return null;
    }

    static void many(String[] arguments, int count) throws Exception {
        ExecutorService threads = Executors.newFixedThreadPool(16);
        List<Future<Connection>> opened = new ArrayList<>();
        for (int n = 0; n < count; n++)
            opened.add(threads.submit(() -> DriverManager.getConnection(arguments[0], arguments[1], arguments[2])));
        List<Connection> connections = new ArrayList<>();
        for (Future<Connection> one : opened)
            connections.add(one.get());
        List<Future<Void>> working = new ArrayList<>();
        for (int n = 0; n < count; n++) {
            int number = n;
            working.add(threads.submit(() -> work(connections.get(number), number)));
        }
        for (Future<Void> one : working)
            one.get();
        for (Connection connection : connections)
            connection.close();
        threads.shutdown();
    }

    static void habits(String[] arguments) throws Exception {
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
        try (Connection connection = DriverManager.getConnection(arguments[0], arguments[1], arguments[2]);
             Statement statement = connection.createStatement()) {
            statement.execute("DROP TABLE IF EXISTS jdbc_habits");
            statement.execute("CREATE TABLE jdbc_habits (id int, word text)");
            statement.execute("INSERT INTO jdbc_habits SELECT n, 'word ' || n FROM generate_series(1, 100) n");
            PreparedStatement select = connection.prepareStatement("SELECT word FROM jdbc_habits WHERE id = ?");
            PreparedStatement all = connection.prepareStatement("SELECT * FROM jdbc_habits WHERE id = ?");
            for (int n = 1; n <= 10; n++) {
                check(ask(select, n).equals("word " + n), "word " + n);
                ask(all, n);
            }
            System.out.println("kill");
            input.readLine();
            for (int n = 1; n <= 10; n++)
                check(ask(select, n).equals("word " + n), "word after new backends " + n);
            statement.execute("ALTER TABLE jdbc_habits ADD COLUMN more int DEFAULT 7");
            for (int n = 1; n <= 10; n++)
                check(ask(select, n).equals("word " + n), "word after ALTER " + n);
            all.setInt(1, 1);
            try (ResultSet rows = all.executeQuery()) {
                check(rows.next() && rows.getMetaData().getColumnCount() == 3, "the new column");
                check(rows.getInt(3) == 7, "its value");
            }
            statement.execute("DROP TABLE jdbc_habits");
        }
    }

    public static void main(String[] arguments) throws Exception {
        if (arguments[3].equals("many"))
            many(arguments, Integer.parseInt(arguments[4]));
        else
            habits(arguments);
        System.out.println("done");
    }
}
