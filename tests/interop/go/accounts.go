package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/lib/pq"
	"github.com/redis/go-redis/v9"

	"reefknot.interop/bank/pb/bank"
)

// errDuplicated says that the local part of a message came after the server had asked for it.
var errDuplicated = errors.New("DUPLICATED")

// Accounts are balances in one database, changed behind a barrier: at most once for each branch call,
// and never after the call that undoes it.
type Accounts interface {
	// Work does one operation of a branch.
	Work(branch Branch, operation string, transfer *bank.Transfer) error
	// Decide answers a query about a message and makes the answer final.
	Decide(branch Branch) error
}

// Databases are the addresses of the databases; empty ones are not used.
type Databases struct {
	MariaDB, Postgres, Redis string
}

func (d Databases) open() (map[string]Accounts, error) {
	opened := map[string]Accounts{}
	if d.MariaDB != "" {
		db, err := sql.Open("mysql", d.MariaDB)
		if err != nil {
			return nil, err
		}
		opened["mariadb"] = &sqlAccounts{db, mariadb}
	}
	if d.Postgres != "" {
		db, err := sql.Open("postgres", d.Postgres)
		if err != nil {
			return nil, err
		}
		opened["postgres"] = &sqlAccounts{db, postgres}
	}
	if d.Redis != "" {
		options, err := redis.ParseURL(d.Redis)
		if err != nil {
			return nil, err
		}
		opened["redis"] = &redisAccounts{redis.NewClient(options)}
	}
	return opened, nil
}

// origins names the operation that one undoes.
var origins = map[string]string{"cancel": "try", "compensate": "action", "rollback": "action"}

// changes are what an operation adds to the balance and to the money that is on its way.
func changes(operation string, amount int64) (balance, expected int64, err error) {
	given, taken := amount, int64(0)
	if amount < 0 {
		given, taken = 0, amount
	}
	switch operation {
	case "action":
		return amount, 0, nil
	case "compensate":
		return -amount, 0, nil
	case "try":
		return taken, given, nil
	case "confirm":
		return given, -given, nil
	case "cancel":
		return -taken, -given, nil
	}
	return 0, 0, fmt.Errorf("unknown operation %s", operation)
}

// dialect is what differs between the SQL databases.
type dialect struct {
	insertBarrier, selectReason, update        string
	xaStart, xaEnd, xaPrepare, xaDrop          string
	xaCommit, xaRollback, xaPrepared, xaIsGone string
}

var mariadb = dialect{
	insertBarrier: "INSERT IGNORE INTO dtm_barrier.barrier (trans_type, gid, branch_id, op, barrier_id, reason)" +
		" VALUES (?, ?, ?, ?, ?, ?)",
	selectReason: "SELECT reason FROM dtm_barrier.barrier" +
		" WHERE gid = ? AND branch_id = ? AND op = ? AND barrier_id = ?",
	update: "UPDATE account SET balance = balance + ?, expected = expected + ?" +
		" WHERE name = ? AND balance + ? >= 0",
	xaStart: "XA START '%s'", xaEnd: "XA END '%s'", xaPrepare: "XA PREPARE '%s'", xaDrop: "XA ROLLBACK '%s'",
	xaCommit: "XA COMMIT '%s'", xaRollback: "XA ROLLBACK '%s'", xaPrepared: "XA RECOVER", xaIsGone: "XAER_NOTA",
}

var postgres = dialect{
	insertBarrier: "INSERT INTO dtm_barrier.barrier (trans_type, gid, branch_id, op, barrier_id, reason)" +
		" VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT ON CONSTRAINT uniq_barrier DO NOTHING",
	selectReason: "SELECT reason FROM dtm_barrier.barrier" +
		" WHERE gid = $1 AND branch_id = $2 AND op = $3 AND barrier_id = $4",
	update: "UPDATE account SET balance = balance + $1, expected = expected + $2" +
		" WHERE name = $3 AND balance + $4 >= 0",
	xaStart: "BEGIN", xaPrepare: "PREPARE TRANSACTION '%s'", xaDrop: "ROLLBACK",
	xaCommit: "COMMIT PREPARED '%s'", xaRollback: "ROLLBACK PREPARED '%s'", xaIsGone: "does not exist",
}

type sqlAccounts struct {
	db *sql.DB
	dialect
}

// executor is a transaction, a connection or the database.
type executor interface {
	ExecContext(ctx context.Context, query string, arguments ...any) (sql.Result, error)
}

func (a *sqlAccounts) Work(branch Branch, operation string, transfer *bank.Transfer) error {
	if err := branch.Complete(); err != nil {
		return err
	}
	transaction, err := a.db.Begin()
	if err != nil {
		return err
	}
	defer transaction.Rollback() // without effect after the commit
	first, err := a.pass(transaction, branch)
	if err != nil {
		return err
	}
	if first {
		if err := a.adjust(transaction, operation, transfer); err != nil {
			return err
		}
	}
	return transaction.Commit()
}

// pass writes the barrier's rows; it says whether the operation is to be done.
func (a *sqlAccounts) pass(to executor, branch Branch) (bool, error) {
	undoesNothing := false
	if origin := origins[branch.Op]; origin != "" {
		added, err := a.insert(to, branch, origin, branch.Op)
		if err != nil {
			return false, err
		}
		undoesNothing = added > 0
	}
	added, err := a.insert(to, branch, branch.Op, branch.Op)
	if err != nil {
		return false, err
	}
	if branch.Op == "msg" && added == 0 {
		return false, errDuplicated
	}
	return added > 0 && !undoesNothing, nil
}

func (a *sqlAccounts) insert(to executor, branch Branch, op, reason string) (int64, error) {
	result, err := to.ExecContext(context.Background(), a.insertBarrier, branch.Mode, branch.Gid, branch.ID, op, "01", reason)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// adjust changes an account; one that is missing or would go below zero refuses.
func (a *sqlAccounts) adjust(to executor, operation string, transfer *bank.Transfer) error {
	balance, expected, err := changes(operation, transfer.Amount)
	if err != nil {
		return err
	}
	result, err := to.ExecContext(context.Background(), a.update, balance, expected, transfer.Account, balance)
	if err != nil {
		return err
	}
	changed, err := result.RowsAffected()
	if err == nil && changed != 1 {
		err = fmt.Errorf("%s of %d by %s: %w", operation, transfer.Amount, transfer.Account, errRefused)
	}
	return err
}

func (a *sqlAccounts) Decide(branch Branch) error {
	if _, err := a.insert(a.db, branch, branch.Op, "rollback"); err != nil {
		return err
	}
	var reason string
	row := a.db.QueryRow(a.selectReason, branch.Gid, branch.ID, branch.Op, "01")
	if err := row.Scan(&reason); err != nil {
		return err
	}
	if reason == "rollback" {
		return fmt.Errorf("never committed: %w", errRefused)
	}
	return nil
}

type redisAccounts struct {
	client *redis.Client
}

const keptSeconds = 86400

// The keys are the account, the mark of this operation and that of the one it undoes; the arguments
// are what to add, the operation that is undone, and how long marks are kept.
var redisWork = redis.NewScript(`
local balance = redis.call('GET', KEYS[1])
if not balance or tonumber(balance) + tonumber(ARGV[1]) < 0 then return 'FAILURE' end
if not redis.call('SET', KEYS[2], 'op', 'NX', 'EX', ARGV[3]) then return 'DUPLICATE' end
if ARGV[2] ~= '' and redis.call('SET', KEYS[3], 'rollback', 'NX', 'EX', ARGV[3]) then return 'NOTHING' end
redis.call('INCRBY', KEYS[1], ARGV[1])
return 'DONE'
`)

var redisDecide = redis.NewScript(`
redis.call('SET', KEYS[1], 'rollback', 'NX', 'EX', ARGV[1])
return redis.call('GET', KEYS[1])
`)

func mark(branch Branch, op string) string {
	return branch.Gid + "-" + branch.ID + "-" + op + "-01"
}

func (a *redisAccounts) Work(branch Branch, operation string, transfer *bank.Transfer) error {
	if err := branch.Complete(); err != nil {
		return err
	}
	balance, expected, err := changes(operation, transfer.Amount)
	if err != nil {
		return err
	}
	if expected != 0 {
		return fmt.Errorf("no money on its way on Redis: %s", operation)
	}
	keys := []string{transfer.Account, mark(branch, branch.Op), mark(branch, origins[branch.Op])}
	said, err := redisWork.Run(context.Background(), a.client, keys, balance, origins[branch.Op], keptSeconds).Text()
	switch {
	case err != nil:
		return err
	case said == "FAILURE":
		return fmt.Errorf("%s of %d by %s: %w", operation, transfer.Amount, transfer.Account, errRefused)
	case said == "DUPLICATE" && branch.Op == "msg":
		return errDuplicated
	}
	return nil
}

func (a *redisAccounts) Decide(branch Branch) error {
	said, err := redisDecide.Run(context.Background(), a.client, []string{mark(branch, branch.Op)}, keptSeconds).Text()
	if err == nil && said == "rollback" {
		return fmt.Errorf("never committed: %w", errRefused)
	}
	return err
}
