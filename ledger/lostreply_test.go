package ledger_test

import (
	"bytes"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/epitaph/epitaph/internal/testserver"
	"github.com/epitaph/epitaph/ledger"
)

// cutter stands between a ledger and its server. It cuts a connection at the
// worst moment: the server has committed, and its reply is lost.
type cutter struct {
	network, address string
	armed            atomic.Bool
	cuts             atomic.Int64
}

func (c *cutter) serve(l net.Listener) {
	for {
		client, err := l.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial(c.network, c.address)
		if err != nil {
			client.Close()
			continue
		}
		go c.join(client, server)
	}
}

// join copies both ways. Once a commit is on its way and the cutter is armed,
// nothing of the answer is passed on.
func (c *cutter) join(client, server net.Conn) {
	var silent atomic.Bool
	var once sync.Once
	end := func() { once.Do(func() { client.Close(); server.Close() }) }
	go func() {
		defer end()
		buf := make([]byte, 64<<10)
		for {
			n, err := server.Read(buf)
			if err != nil {
				return
			}
			if silent.Load() { // the server has answered: it has committed
				c.cuts.Add(1)
				return
			}
			if _, err := client.Write(buf[:n]); err != nil {
				return
			}
		}
	}()
	defer end()
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		if bytes.Contains(bytes.ToLower(buf[:n]), []byte("commit")) && c.armed.CompareAndSwap(true, false) {
			silent.Store(true)
		}
		if _, err := server.Write(buf[:n]); err != nil {
			return
		}
	}
}

func TestLostReplyToACommit(t *testing.T) {
	t.Parallel()
	conf, err := pgx.ParseConfig(testserver.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{network: "tcp", address: fmt.Sprintf("%s:%d", conf.Host, conf.Port)}
	if filepath.IsAbs(conf.Host) {
		c.network, c.address = "unix", fmt.Sprintf("%s/.s.PGSQL.%d", conf.Host, conf.Port)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go c.serve(listener)
	l := open(t, fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable", conf.User, listener.Addr(), conf.Database))
	want := int64(1)
	for i := range 30 {
		c.armed.Store(i%3 == 1)
		es := []ledger.Entry{anIntent(2), {Kind: ledger.Heartbeat}}
		if n := mustAppend(t, l, es...); n != want {
			t.Fatalf("append %d got number %d, want %d", i, n, want)
		}
		want += 2
	}
	if c.cuts.Load() != 10 {
		t.Errorf("%d replies were lost, want 10", c.cuts.Load())
	}
	if n, _, err := l.Newest(t.Context()); n != 60 || err != nil {
		t.Errorf("%d entries after 60 appends, %v", n, err)
	}
	if r := verify(t, l, ledger.Verification{}); len(r.Faults) > 0 {
		t.Errorf("faults: %v", r.Faults)
	}
}
