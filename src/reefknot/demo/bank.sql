-- The statements of the bank of the demo.

-- name: create_account
CREATE TABLE account (
    name text PRIMARY KEY,
    opened_with integer NOT NULL,
    balance integer NOT NULL,
    closed integer NOT NULL DEFAULT 0
)

-- name: create_entry
-- What was booked, and for which branch operation: the auditor's view of the balance.
CREATE TABLE entry (
    id integer PRIMARY KEY,
    gid text NOT NULL,
    branch_id text NOT NULL,
    op text NOT NULL,
    account text NOT NULL REFERENCES account (name),
    amount integer NOT NULL
)

-- name: open_account
INSERT INTO account (name, opened_with, balance, closed)
VALUES (:name, :amount, :amount, :closed)

-- name: change_balance
-- A closed account takes and gives nothing, and no account is overdrawn.
UPDATE account
SET balance = balance + :amount
WHERE name = :account AND NOT closed AND balance + :amount >= 0

-- name: reverse_balance
-- An undo has no choice: it must take back what was booked.
UPDATE account
SET balance = balance + :amount
WHERE name = :account

-- name: add_entry
INSERT INTO entry (gid, branch_id, op, account, amount)
VALUES (:gid, :branch_id, :op, :account, :amount)

-- name: find_account
SELECT closed
FROM account
WHERE name = ?

-- name: list_accounts
SELECT name, opened_with, balance
FROM account
ORDER BY name

-- name: list_entries
SELECT gid, branch_id, op, account, amount
FROM entry
ORDER BY id
