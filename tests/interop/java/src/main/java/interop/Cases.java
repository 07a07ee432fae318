package interop;

import java.util.Collections;
import java.util.Map;
import pub.dtm.client.DtmClient;
import pub.dtm.client.saga.Saga;
import pub.dtm.client.tcc.Tcc;

/** What a user of the client writes, one method for each kind of transaction. */
final class Cases {
    private final DtmClient client;
    private final Service service;

    Cases(String server, Service service) {
        this.client = new DtmClient(server);
        this.service = service;
    }

    /**
     * Runs one case.
     *
     * @param query {@code case}, {@code gid}, {@code from}, {@code to}, {@code amount}
     * @return the gid that the client gave back and the exception it raised, if any
     */
    Map<String, String> run(Map<String, String> query) {
        String gid = query.get("gid");
        long amount = Long.parseLong(query.get("amount"));
        Transfer out = new Transfer(query.get("from"), -amount);
        Transfer in = new Transfer(query.get("to"), amount);
        try {
            return Map.of("gid", start(query.get("case"), gid, out, in), "error", "");
        } catch (Exception error) {
            return Map.of("gid", gid, "error", String.valueOf(error));
        }
    }

    private String start(String name, String gid, Transfer out, Transfer in) throws Exception {
        switch (name) {
            case "saga":
                return saga(client.newSaga(gid), out, in).submit();
            case "saga_gid_of_the_server":
                return saga(client.newSaga(), out, in).submit();
            case "saga_wait":
                return saga(client.newSaga(gid), out, in).enableWaitResult().submit();
            case "saga_concurrent":
                return saga(client.newSaga(gid), out, in).enableConcurrent().submit();
            case "saga_order":
                // The first step waits for the second.
                return saga(client.newSaga(gid), out, in)
                        .enableConcurrent()
                        .addBranchOrder(0, Collections.singletonList(1))
                        .submit();
            case "tcc":
                return client.tccGlobalTransaction(gid, tcc -> both(tcc, "/bank/", out, in));
            case "tcc_late_try":
                try {
                    return client.tccGlobalTransaction(gid, tcc -> both(tcc, "/late/", out, in));
                } finally {
                    service.awaitLateTry(gid);
                }
            default:
                throw new IllegalArgumentException("unknown case " + name);
        }
    }

    private Saga saga(Saga saga, Transfer out, Transfer in) {
        String action = service.url("/bank/action");
        String compensate = service.url("/bank/compensate");
        return saga.add(action, compensate, out).add(action, compensate, in);
    }

    private void both(Tcc tcc, String path, Transfer out, Transfer in) throws Exception {
        branch(tcc, "/bank/", out);
        branch(tcc, path, in);
    }

    private void branch(Tcc tcc, String path, Transfer transfer) throws Exception {
        String url = service.url(path);
        tcc.callBranch(transfer, url + "try", url + "confirm", url + "cancel").close();
    }
}
