package interop;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import pub.dtm.client.exception.FailureException;

/**
 * The business over HTTP: {@code /bank/OP} for branch calls, {@code /late/OP} for a branch whose try is
 * delayed until its cancel has been answered, {@code /run} for the test.
 */
final class Service {
    private static final long PATIENCE_SECONDS = 20;

    private final ObjectMapper json = new ObjectMapper();
    private final Map<String, CountDownLatch> cancelled = new ConcurrentHashMap<>();
    private final Map<String, CountDownLatch> tried = new ConcurrentHashMap<>();
    private final Bank bank;
    private final HttpServer server;

    Service(Bank bank) throws IOException {
        this.bank = bank;
        this.server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
        this.server.setExecutor(Executors.newCachedThreadPool());
    }

    void start(Cases cases) {
        server.createContext("/bank/", exchange -> answer(exchange, () -> branch(exchange)));
        server.createContext("/late/", exchange -> answer(exchange, () -> lateBranch(exchange)));
        server.createContext("/run", exchange -> answer(exchange, () -> cases.run(query(exchange.getRequestURI()))));
        server.start();
    }

    int port() {
        return server.getAddress().getPort();
    }

    String url(String path) {
        return "http://127.0.0.1:" + port() + path;
    }

    /** Waits until the delayed try of a transaction has been worked on. */
    void awaitLateTry(String gid) throws InterruptedException {
        await(tried, gid);
    }

    private Object branch(HttpExchange exchange) throws Exception {
        String path = exchange.getRequestURI().getPath();
        Transfer transfer = json.readValue(exchange.getRequestBody(), Transfer.class);
        bank.work(path.substring(path.lastIndexOf('/') + 1), transfer, arrays(query(exchange.getRequestURI())));
        return Map.of("dtm_result", "SUCCESS");
    }

    private Object lateBranch(HttpExchange exchange) throws Exception {
        Map<String, String> query = query(exchange.getRequestURI());
        boolean isTry = query.get("op").equals("try");
        if (isTry) {
            await(cancelled, query.get("gid"));
        }
        try {
            return branch(exchange);
        } finally {
            latch(isTry ? tried : cancelled, query.get("gid")).countDown();
        }
    }

    private static CountDownLatch latch(Map<String, CountDownLatch> latches, String gid) {
        return latches.computeIfAbsent(gid, ignored -> new CountDownLatch(1));
    }

    private static void await(Map<String, CountDownLatch> latches, String gid) throws InterruptedException {
        if (!latch(latches, gid).await(PATIENCE_SECONDS, TimeUnit.SECONDS)) {
            throw new IllegalStateException("nothing happened to " + gid);
        }
    }

    private interface Work {
        Object run() throws Exception;
    }

    private void answer(HttpExchange exchange, Work work) throws IOException {
        int status = 200;
        Object body;
        try {
            body = work.run();
        } catch (Exception error) {
            boolean refused = refused(error);
            status = refused ? 409 : 500;
            body = Map.of("dtm_result", refused ? "FAILURE" : "ERROR", "message", String.valueOf(error));
        }
        byte[] bytes = json.writeValueAsBytes(body);
        exchange.getResponseHeaders().set("Content-Type", "application/json");
        exchange.sendResponseHeaders(status, bytes.length);
        exchange.getResponseBody().write(bytes);
        exchange.close();
    }

    /** Whether the business refused; the barrier may wrap its exception. */
    private static boolean refused(Throwable error) {
        for (Throwable each = error; each != null; each = each.getCause()) {
            if (each instanceof FailureException) {
                return true;
            }
        }
        return false;
    }

    private static Map<String, String> query(URI uri) {
        Map<String, String> found = new HashMap<>();
        for (String pair : uri.getRawQuery().split("&")) {
            String[] parts = pair.split("=", 2);
            found.put(parts[0], URLDecoder.decode(parts[1], StandardCharsets.UTF_8));
        }
        return found;
    }

    private static Map<String, String[]> arrays(Map<String, String> query) {
        Map<String, String[]> found = new HashMap<>();
        query.forEach((name, value) -> found.put(name, new String[] {value}));
        return found;
    }
}
