// Command barrier is a branch in Go behind the barrier of DTM's Go client, for tests of programs that share
// one table.
//
// It reads one call a line as JSON and answers each with one line: for every piece of work of the
// handler whether it was done, or what went wrong.
package main

import (
	"bufio"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/dtm-labs/dtm/client/dtmcli"
	"github.com/dtm-labs/dtm/client/dtmcli/logger"
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

var errBusiness = errors.New("the work fails")

// effects insert what a piece of work leaves behind.
var effects = map[string]string{
	dtmcli.DBTypeMysql:    "INSERT INTO effect (gid, branch_id, op) VALUES (?, ?, ?)",
	dtmcli.DBTypePostgres: "INSERT INTO effect (gid, branch_id, op) VALUES ($1, $2, $3)",
}

type bank struct {
	db     *sql.DB
	effect string
}

// piece does one piece of work in a transaction of its own, if the barrier lets it.
func (b *bank) piece(barrier *dtmcli.BranchBarrier, c call) (ran bool, err error) {
	err = barrier.CallWithDB(b.db, func(tx *sql.Tx) error {
		ran = true
		if _, err := tx.Exec(b.effect, c.Gid, c.Branch, c.Op); err != nil {
			return err
		}
		if c.Fails {
			return errBusiness
		}
		return nil
	})
	// The refusal of a second local transaction of one message.
	if errors.Is(err, errBusiness) || errors.Is(err, dtmcli.ErrDuplicated) {
		err = nil
	}
	return ran, err
}

func (b *bank) serve(c call) (a answer) {
	barrier, err := dtmcli.BarrierFrom(c.Mode, c.Gid, c.Branch, c.Op)
	if err == nil && c.Asked {
		err = barrier.QueryPrepared(b.db)
		a.Ran = []bool{err == nil}
		if errors.Is(err, dtmcli.ErrFailure) {
			err = nil
		}
	}
	for number := 0; err == nil && !c.Asked && number < c.Pieces; number++ {
		var ran bool
		ran, err = b.piece(barrier, c)
		a.Ran = append(a.Ran, ran)
	}
	if err != nil {
		a.Error = err.Error()
	}
	return a
}

func main() {
	if len(os.Args) != 3 || effects[os.Args[1]] == "" {
		fmt.Fprintln(os.Stderr, "usage: barrier mysql|postgres DATA-SOURCE-NAME")
		os.Exit(2)
	}
	// Its own default is the standard output, which is for the answers.
	logger.InitLog2("error", "stderr", 0, "")
	dtmcli.SetCurrentDBType(os.Args[1])
	db, err := sql.Open(os.Args[1], os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	b := &bank{db, effects[os.Args[1]]}
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
