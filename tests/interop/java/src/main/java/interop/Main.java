package interop;

/** Starts the bank: {@code Main DTM_HOST:PORT JDBC_URL}; prints {@code ready PORT} when it answers. */
public final class Main {
    private Main() {}

    public static void main(String[] arguments) throws Exception {
        Bank bank = new Bank(arguments[1]);
        Service service = new Service(bank);
        Cases cases = new Cases(arguments[0], service);
        service.start(cases);
        System.out.println("ready " + service.port());
        // Whoever started this program holds the other end of its input; when that goes, so does the bank.
        while (System.in.read() >= 0) {
            continue;
        }
        System.exit(0);
    }
}
