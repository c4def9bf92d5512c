package capture

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// SQLite's locks are between processes, so those who write the source in these
// tests are children: this test binary again, told by its environment to obey
// orders that come line by line on its standard input.
const childEnv = "CAPTURE_TEST_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		if err := obey(path); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// obey answers every order with one line: "ok", milliseconds, and the first
// column of the last row, or "error" and why. Orders are SQL, or "transfers" to
// move money between accounts from then on, and "relentless" to do so without
// ever a pause.
func obey(path string) error {
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite|sqlite.OpenCreate)
	if err != nil {
		return err
	}
	conn.SetBusyTimeout(100 * time.Second)
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		if pause, ok := map[string]time.Duration{"transfers": time.Millisecond, "relentless": 0}[in.Text()]; ok {
			fmt.Println("ok")
			return transfers(conn, pause)
		}
		begun := time.Now()
		value := ""
		err := sqlitex.ExecuteTransient(conn, in.Text(), &sqlitex.ExecOptions{ResultFunc: func(row *sqlite.Stmt) error {
			value = row.ColumnText(0)
			return nil
		}})
		if err != nil {
			fmt.Printf("error: %v\n", err)
			continue
		}
		fmt.Printf("ok %d %s\n", time.Since(begun).Milliseconds(), value)
	}
	return nil
}

// transfers moves money between random accounts, many pages a transaction, so
// that every committed state has the same sum.
func transfers(conn *sqlite.Conn, pause time.Duration) error {
	for {
		for _, order := range []string{
			"BEGIN IMMEDIATE",
			"UPDATE account SET money = money - 1 WHERE id % 7 = abs(random()) % 7",
			"UPDATE total SET money = (SELECT sum(money) FROM account), round = round + 1",
			"COMMIT",
		} {
			if err := sqlitex.ExecuteTransient(conn, order, nil); err != nil {
				return err
			}
		}
		time.Sleep(pause)
	}
}

type child struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startChild(t *testing.T, db string) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+db)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{t: t, cmd: cmd, in: in, out: bufio.NewReader(out)}
	t.Cleanup(c.kill)
	return c
}

func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

func (c *child) send(order string) {
	c.t.Helper()
	if _, err := fmt.Fprintln(c.in, strings.Join(strings.Fields(order), " ")); err != nil {
		c.t.Fatal(err)
	}
}

func (c *child) answer() string {
	c.t.Helper()
	line, err := c.out.ReadString('\n')
	if err != nil {
		c.t.Fatalf("child: %v", err)
	}
	return strings.TrimSpace(line)
}

// do sends an order and wants "ok"; it returns the milliseconds it took.
func (c *child) do(order string) (ms int) {
	c.t.Helper()
	c.send(order)
	a := c.answer()
	if _, err := fmt.Sscanf(a, "ok %d", &ms); err != nil && a != "ok" {
		c.t.Fatalf("order %q: %s", order, a)
	}
	return ms
}

// ask sends an order and returns the value of its answer.
func (c *child) ask(order string) string {
	c.t.Helper()
	c.send(order)
	var ms int
	var value string
	if a := c.answer(); a != "" {
		if _, err := fmt.Sscanf(a, "ok %d %s", &ms, &value); err != nil {
			c.t.Fatalf("order %q: %s", order, a)
		}
	}
	return value
}
