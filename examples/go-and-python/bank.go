// A bank in Go behind the barrier's table that the bank in Python uses too. It needs no client of DTM;
// with one, dtmcli's BranchBarrier writes these rows.
package main

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"

	_ "github.com/lib/pq"
)

// The call's own row and, if it is an undo, that of its action.
const barrier = `INSERT INTO dtm_barrier.barrier (trans_type, gid, branch_id, op, barrier_id, reason)
	SELECT $1, $2, $3, op, '01', $4 FROM (SELECT 'action' UNION SELECT $4::text) AS ops (op)
	ON CONFLICT DO NOTHING`
const change = `UPDATE east SET balance = balance + $1 WHERE name = $2 AND ($3 OR balance + $1 >= 0)` // an undo must not fail

var errRefused = errors.New("cannot be moved")

func move(db *sql.DB, sign int, r *http.Request) error {
	var order struct {
		Account string
		Amount  int
	}
	if err := json.NewDecoder(r.Body).Decode(&order); err != nil {
		return err
	}
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback() // does nothing after the commit
	added, err := tx.Exec(barrier, r.FormValue("trans_type"), r.FormValue("gid"), r.FormValue("branch_id"), r.FormValue("op"))
	if err != nil {
		return err
	}
	// One new row: do it now. None: repeated, or too late. Two: the action never came, nothing is to be undone.
	if rows, _ := added.RowsAffected(); rows == 1 {
		changed, err := tx.Exec(change, sign*order.Amount, order.Account, r.FormValue("op") == "compensate")
		if err != nil {
			return err
		}
		if rows, _ := changed.RowsAffected(); rows == 0 {
			return fmt.Errorf("Go: %s %w by %d", order.Account, errRefused, sign*order.Amount)
		}
	}
	return tx.Commit()
}

func main() {
	db, err := sql.Open("postgres", os.Getenv("POSTGRES_URL"))
	if err != nil {
		log.Fatal(err)
	}
	for path, sign := range map[string]int{"/out": -1, "/out/undo": +1, "/in": +1, "/in/undo": -1} {
		sign := sign
		http.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			if err := move(db, sign, r); errors.Is(err, errRefused) {
				http.Error(w, err.Error(), http.StatusConflict)
			} else if err != nil { // nobody knows what happened: the server calls again
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
		})
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("http://%s\n", listener.Addr())
	go http.Serve(listener, nil)
	os.Stdin.Read(make([]byte, 1)) // until the program that started it is gone
}
