package interop;

import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import java.util.Map;
import pub.dtm.client.barrier.BranchBarrier;
import pub.dtm.client.exception.FailureException;

/** Accounts in a database; every change goes through the client's barrier. */
final class Bank {
    private final String url;

    Bank(String url) {
        this.url = url;
    }

    /**
     * Does the work of one branch call, at most once.
     *
     * @param op the operation, for example {@code action}
     * @param query the query of the call, which the barrier reads
     */
    void work(String op, Transfer transfer, Map<String, String[]> query) throws Exception {
        BranchBarrier barrier = new BranchBarrier(query);
        try (Connection connection = DriverManager.getConnection(url)) {
            barrier.call(connection, ignored -> change(connection, op, transfer));
        }
    }

    private static void change(Connection connection, String op, Transfer transfer) throws Exception {
        switch (op) {
            case "action":
                adjust(connection, transfer.account, transfer.amount, 0);
                break;
            case "compensate":
                restore(connection, transfer.account, -transfer.amount, 0);
                break;
            case "try":
                adjust(connection, transfer.account, Math.min(transfer.amount, 0), Math.max(transfer.amount, 0));
                break;
            case "confirm":
                restore(connection, transfer.account, Math.max(transfer.amount, 0), -Math.max(transfer.amount, 0));
                break;
            case "cancel":
                restore(connection, transfer.account, -Math.min(transfer.amount, 0), -Math.max(transfer.amount, 0));
                break;
            default:
                throw new IllegalArgumentException("unknown op " + op);
        }
    }

    /** A forward step: refused for a missing account and for one that would go below zero. */
    private static void adjust(Connection connection, String account, long balance, long expected) throws Exception {
        if (update(connection, account, balance, expected, " AND balance + ? >= 0") != 1) {
            throw new FailureException(account + " cannot move " + balance + " FAILURE");
        }
    }

    /** A second step: what it undoes or ends may not have happened, then it finds nothing. */
    private static void restore(Connection connection, String account, long balance, long expected)
            throws SQLException {
        update(connection, account, balance, expected, " AND ? IS NOT NULL");
    }

    private static int update(Connection connection, String account, long balance, long expected, String condition)
            throws SQLException {
        String sql = "UPDATE account SET balance = balance + ?, expected = expected + ? WHERE name = ?" + condition;
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            statement.setLong(1, balance);
            statement.setLong(2, expected);
            statement.setString(3, account);
            statement.setLong(4, balance);
            return statement.executeUpdate();
        }
    }
}
