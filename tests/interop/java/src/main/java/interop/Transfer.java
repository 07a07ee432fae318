package interop;

/** One side of a transfer: what the bodies of the calls carry. A negative amount is taken away. */
public final class Transfer {
    public String account;
    public long amount;

    public Transfer() {}

    Transfer(String account, long amount) {
        this.account = account;
        this.amount = amount;
    }
}
