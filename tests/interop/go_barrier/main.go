// A branch in Go behind DTM's barrier, for tests of programs that share one table.
//
// It reads one call a line as JSON and answers each with one line: for every piece of work of the
// handler whether it was done, or what went wrong. Rows, statements and their order are those of
// DTM's Go client as its protocol describes them; the client itself is not needed to build this.
package main

import (
	"bufio"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/lib/pq"
)

// call is one branch call: Pieces says how often its handler asks the barrier.
type call struct {
	Mode   string `json:"trans_type"`
	Gid    string `json:"gid"`
	Branch string `json:"branch_id"`
	Op     string `json:"op"`
	Pieces int    `json:"pieces"`
	Fails  bool   `json:"fails"`
	Asked  bool   `json:"asked"`
}

type answer struct {
	Ran   []bool `json:"ran"`
	Error string `json:"error"`
}

var origins = map[string]string{"cancel": "try", "compensate": "action", "rollback": "action"}

var errBusiness = errors.New("the work fails")

type statements struct{ insert, reason, effect string }

var dialects = map[string]statements{
	"mysql": {
		insert: "insert ignore into dtm_barrier.barrier(trans_type, gid, branch_id, op, barrier_id, reason)" +
			" values(?,?,?,?,?,?)",
		reason: "select reason from dtm_barrier.barrier where gid=? and branch_id=? and op=? and barrier_id=?",
		effect: "insert into effect(gid, branch_id, op) values(?,?,?)",
	},
	"postgres": {
		insert: "insert into dtm_barrier.barrier(trans_type, gid, branch_id, op, barrier_id, reason)" +
			" values($1,$2,$3,$4,$5,$6) on conflict on constraint uniq_barrier do nothing",
		reason: "select reason from dtm_barrier.barrier where gid=$1 and branch_id=$2 and op=$3 and barrier_id=$4",
		effect: "insert into effect(gid, branch_id, op) values($1,$2,$3)",
	},
}

type executor interface {
	Exec(query string, arguments ...any) (sql.Result, error)
}

type bank struct {
	db *sql.DB
	statements
}

func (b *bank) put(to executor, c call, op, number, reason string) (int64, error) {
	if op == "" {
		return 0, nil
	}
	result, err := to.Exec(b.insert, c.Mode, c.Gid, c.Branch, op, number, reason)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// piece does one piece of work in a transaction of its own, if the barrier lets it.
func (b *bank) piece(c call, number string) (bool, error) {
	transaction, err := b.db.Begin()
	if err != nil {
		return false, err
	}
	defer transaction.Rollback() // without effect after the commit
	origin, err := b.put(transaction, c, origins[c.Op], number, c.Op)
	if err != nil {
		return false, err
	}
	own, err := b.put(transaction, c, c.Op, number, c.Op)
	if err != nil {
		return false, err
	}
	runs := own > 0 && origin == 0
	if runs {
		if _, err := transaction.Exec(b.effect, c.Gid, c.Branch, c.Op); err != nil {
			return false, err
		}
		if c.Fails {
			return true, errBusiness
		}
	}
	return runs, transaction.Commit()
}

// asked answers whether a message's local transaction committed.
func (b *bank) asked(c call) (bool, error) {
	if _, err := b.put(b.db, call{Mode: c.Mode, Gid: c.Gid, Branch: "00"}, "msg", "01", "rollback"); err != nil {
		return false, err
	}
	var reason string
	err := b.db.QueryRow(b.reason, c.Gid, "00", "msg", "01").Scan(&reason)
	return reason != "rollback", err
}

func (b *bank) serve(c call) (a answer) {
	var err error
	if c.Asked {
		var committed bool
		committed, err = b.asked(c)
		a.Ran = []bool{committed}
	}
	for number := 1; !c.Asked && number <= c.Pieces && err == nil; number++ {
		var ran bool
		ran, err = b.piece(c, fmt.Sprintf("%02d", number))
		a.Ran = append(a.Ran, ran)
	}
	if err != nil && !errors.Is(err, errBusiness) {
		a.Error = err.Error()
	}
	return a
}

func main() {
	if len(os.Args) != 3 || dialects[os.Args[1]].insert == "" {
		fmt.Fprintln(os.Stderr, "usage: barrier mysql|postgres DATA-SOURCE-NAME")
		os.Exit(2)
	}
	db, err := sql.Open(os.Args[1], os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	b := &bank{db, dialects[os.Args[1]]}
	lines, out := bufio.NewScanner(os.Stdin), json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var c call
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if err := out.Encode(b.serve(c)); err != nil {
			os.Exit(1)
		}
	}
}
