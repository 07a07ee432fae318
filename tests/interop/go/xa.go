package main

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"strings"
)

// xa does the bank's part of an XA transaction: the first phase when the client calls, the second
// when the server does.
func (a *sqlAccounts) xa(call *Incoming) error {
	if err := call.Complete(); err != nil {
		return err
	}
	if call.Op == "commit" || call.Op == "rollback" {
		return a.xaFinish(call.Branch, call.Op)
	}
	return a.xaPhaseOne(call.Branch, func(to executor) error {
		if err := a.adjust(to, "action", call.Transfer); err != nil {
			return err
		}
		return call.Server.RegisterBranch(call.Branch, map[string]string{"url": call.Phase2URL}, nil)
	})
}

// xaPhaseOne does work in an XA transaction and leaves it prepared, or gone if the work failed.
func (a *sqlAccounts) xaPhaseOne(branch Branch, work func(executor) error) error {
	connection, err := a.db.Conn(context.Background())
	if err != nil {
		return err
	}
	// A prepared transaction belongs to its connection until that is closed, so it must not go back to the pool.
	defer connection.Raw(func(any) error { return driver.ErrBadConn })
	id := xaID(branch)
	if err := run1(connection, a.xaStart, id); err != nil {
		return err
	}
	_, err = a.insert(connection, branch, "action", "action")
	if err == nil {
		err = work(connection)
	}
	if a.xaEnd != "" {
		if ended := run1(connection, a.xaEnd, id); err == nil {
			err = ended
		}
	}
	if err == nil {
		err = run1(connection, a.xaPrepare, id)
	}
	if err != nil {
		// The connection's end does the same if this fails.
		_ = run1(connection, a.xaDrop, id)
	}
	return err
}

func (a *sqlAccounts) xaFinish(branch Branch, op string) error {
	statement := a.xaCommit
	if op == "rollback" {
		statement = a.xaRollback
	}
	connection, err := a.db.Conn(context.Background())
	if err != nil {
		return err
	}
	defer connection.Close()
	err = run1(connection, statement, xaID(branch))
	if err != nil && strings.Contains(err.Error(), a.xaIsGone) {
		err = a.xaStillThere(connection, xaID(branch))
	}
	if err == nil && op == "rollback" {
		// A first phase that comes late finds the row there.
		_, err = a.insert(connection, branch, "action", "rollback")
	}
	return err
}

// xaStillThere tells a repeated call, for which nothing is left, from one that came before the
// connection of the first phase was closed: MariaDB answers both in the same way.
func (a *sqlAccounts) xaStillThere(connection *sql.Conn, id string) error {
	if a.xaPrepared == "" {
		return nil
	}
	rows, err := connection.QueryContext(context.Background(), a.xaPrepared)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var format, global, branch int
		var found string
		if err := rows.Scan(&format, &global, &branch, &found); err != nil {
			return err
		}
		if found == id {
			return fmt.Errorf("%s is still held by its connection: %w", id, errOngoing)
		}
	}
	return rows.Err()
}

func xaID(branch Branch) string { return branch.Gid + "-" + branch.ID }

// run1 runs a statement that may name the transaction; the database takes no parameter there.
func run1(connection *sql.Conn, statement, id string) error {
	if strings.Contains(statement, "%s") {
		statement = fmt.Sprintf(statement, id)
	}
	_, err := connection.ExecContext(context.Background(), statement)
	return err
}
