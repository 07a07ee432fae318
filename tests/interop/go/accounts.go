package main

import (
	"database/sql"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/dtm-labs/dtm/client/dtmcli"
	_ "github.com/go-sql-driver/mysql"
	_ "github.com/lib/pq"
	"github.com/redis/go-redis/v9"

	"reefknot.interop/bank/pb/bank"
)

// Accounts are balances in one database, changed behind the client's barrier.
type Accounts interface {
	// Work does one operation of a branch.
	Work(barrier *dtmcli.BranchBarrier, operation string, transfer *bank.Transfer) error
	// Decide answers a query about a message.
	Decide(barrier *dtmcli.BranchBarrier) error
}

// Databases are the URLs of the databases; empty ones are not used.
type Databases struct {
	MariaDB, Postgres, Redis string
}

func (d Databases) open() (map[string]Accounts, error) {
	opened := map[string]Accounts{}
	for name, dialect := range map[string]dialect{"mariadb": mariadb, "postgres": postgres} {
		address := map[string]string{"mariadb": d.MariaDB, "postgres": d.Postgres}[name]
		if address == "" {
			continue
		}
		accounts, err := openSQL(dialect, address)
		if err != nil {
			return nil, err
		}
		opened[name] = accounts
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
	driver, source, schema, update string
}

var mariadb = dialect{
	driver: dtmcli.DBTypeMysql,
	// An update that changes nothing counts, as on other databases.
	source: "%s:%s@tcp(%s:%d)/%s?clientFoundRows=true",
	update: "UPDATE account SET balance = balance + ?, expected = expected + ?" +
		" WHERE name = ? AND balance + ? >= 0",
}

var postgres = dialect{
	driver: dtmcli.DBTypePostgres,
	source: "postgres://%s:%s@%s:%d/%s?sslmode=disable",
	schema: "public",
	update: "UPDATE account SET balance = balance + $1, expected = expected + $2" +
		" WHERE name = $3 AND balance + $4 >= 0",
}

type sqlAccounts struct {
	db *sql.DB
	// The same database as the client's XA opens it.
	conf dtmcli.DBConf
	dialect
}

func openSQL(d dialect, address string) (*sqlAccounts, error) {
	place, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseInt(place.Port(), 10, 32)
	if err != nil {
		return nil, err
	}
	password, _ := place.User.Password()
	conf := dtmcli.DBConf{
		Driver: d.driver, Host: place.Hostname(), Port: port, User: place.User.Username(), Password: password,
		Db: strings.TrimPrefix(place.Path, "/"), Schema: d.schema,
	}
	db, err := sql.Open(d.driver, fmt.Sprintf(d.source, conf.User, conf.Password, conf.Host, conf.Port, conf.Db))
	return &sqlAccounts{db, conf, d}, err
}

func (a *sqlAccounts) Work(barrier *dtmcli.BranchBarrier, operation string, transfer *bank.Transfer) error {
	barrier.DBType = a.driver
	return barrier.CallWithDB(a.db, func(tx *sql.Tx) error { return a.adjust(tx, operation, transfer) })
}

// adjust changes an account; one that is missing or would go below zero refuses.
func (a *sqlAccounts) adjust(to dtmcli.DB, operation string, transfer *bank.Transfer) error {
	balance, expected, err := changes(operation, transfer.Amount)
	if err != nil {
		return err
	}
	result, err := to.Exec(a.update, balance, expected, transfer.Account, balance)
	if err != nil {
		return err
	}
	changed, err := result.RowsAffected()
	if err == nil && changed != 1 {
		err = refused(operation, transfer)
	}
	return err
}

func (a *sqlAccounts) Decide(barrier *dtmcli.BranchBarrier) error {
	barrier.DBType = a.driver
	return barrier.QueryPrepared(a.db)
}

// prepared makes the first phase of XA and returns when the second can be called.
//
// MariaDB keeps a prepared transaction for the connection that prepared it until that is closed. Up to then
// it answers a commit by another connection with XAER_NOTA, which the client takes for "done before".
func (a *sqlAccounts) prepared(transfer *bank.Transfer, phaseOne func(work func(db *sql.DB) error) error) error {
	var connection int64
	err := phaseOne(func(db *sql.DB) error {
		if a.driver == dtmcli.DBTypeMysql {
			if err := db.QueryRow("SELECT connection_id()").Scan(&connection); err != nil {
				return err
			}
		}
		return a.adjust(db, "action", transfer)
	})
	for end := time.Now().Add(patience); connection != 0; time.Sleep(time.Millisecond) {
		var open int
		row := a.db.QueryRow("SELECT count(*) FROM information_schema.processlist WHERE id = ?", connection)
		switch failed := row.Scan(&open); {
		case failed != nil:
			return failed
		case open == 0:
			return err
		case time.Now().After(end):
			return fmt.Errorf("connection %d is still open", connection)
		}
	}
	return err
}

type redisAccounts struct {
	client *redis.Client
}

const keptSeconds = 86400

func (a *redisAccounts) Work(barrier *dtmcli.BranchBarrier, operation string, transfer *bank.Transfer) error {
	balance, expected, err := changes(operation, transfer.Amount)
	if err != nil {
		return err
	}
	if expected != 0 {
		return fmt.Errorf("no money on its way on Redis: %s", operation)
	}
	err = barrier.RedisCheckAdjustAmount(a.client, transfer.Account, int(balance), keptSeconds)
	if err == dtmcli.ErrFailure {
		err = refused(operation, transfer)
	}
	return err
}

func (a *redisAccounts) Decide(barrier *dtmcli.BranchBarrier) error {
	return barrier.RedisQueryPrepared(a.client, keptSeconds)
}

func refused(operation string, transfer *bank.Transfer) error {
	return fmt.Errorf("%s of %d by %s: %w", operation, transfer.Amount, transfer.Account, dtmcli.ErrFailure)
}
