// Package testserver starts real database servers for tests: a private
// PostgreSQL or MariaDB in a temporary directory, reached only through a
// socket in that directory, stopped and removed when the tests are over.
//
// A socket in a fresh private directory cannot be somebody else's server, which
// a port can. When the tests run as root, the servers run as the unprivileged
// user that their package made, because they refuse root.
//
// A test binary that asks for a shared server calls [Main] from TestMain (or
// wraps its M with [Wrap]), so that the server ends with it. A server whose
// test binary is killed is killed by the kernel.
package testserver

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Runner is a set of tests, as *testing.M is.
type Runner interface{ Run() int }

// Main runs the tests, stops the shared servers and exits.
func Main(m *testing.M) { os.Exit(Wrap(m).Run()) }

// Wrap returns a Runner that runs m and then stops the shared servers. It is
// for a TestMain that has to hand its M to somebody else, such as testscript.
func Wrap(m Runner) Runner { return wrapped{m} }

type wrapped struct{ m Runner }

func (w wrapped) Run() int {
	defer stopShared()
	return w.m.Run()
}

// shared holds the servers that the tests of one binary share.
var shared struct {
	sync.Mutex
	servers map[string]*Server
}

// serial numbers the databases of a test binary.
var serial atomic.Int64

// sharedServer returns the server of that key, started on first use.
func sharedServer(t testing.TB, key string, start func() (*Server, error)) *Server {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if s := shared.servers[key]; s != nil {
		return s
	}
	s, err := start()
	if err != nil {
		t.Fatalf("start %s: %v", key, err)
	}
	if shared.servers == nil {
		shared.servers = map[string]*Server{}
	}
	shared.servers[key] = s
	return s
}

func stopShared() {
	shared.Lock()
	defer shared.Unlock()
	for key, s := range shared.servers {
		s.remove()
		delete(shared.servers, key)
	}
}

// Server is one running database server with a directory of its own.
type Server struct {
	kind kind
	dir  string // private: data, socket, log
	cred *syscall.Credential

	mu   sync.Mutex
	proc *os.Process
	done chan struct{} // closed when the process has ended
}

// kind is what differs between the servers.
type kind interface {
	install(s *Server) error           // make the data directory
	command(s *Server) *exec.Cmd       // the server in the foreground
	ping(s *Server) error              // nil when it answers
	create(s *Server, db string) error // make an empty database
	drop(s *Server, db string) error
	dsn(s *Server, db string) string
	graceful() os.Signal // ends it soon and in order
}

// patience is how long a server may take for anything: the disk of a busy machine
// may need a minute for what takes a second elsewhere.
const patience = 3 * time.Minute

// newServer makes a data directory and starts a server on it. The server runs
// as account when the tests run as root.
func newServer(k kind, account string) (*Server, error) {
	dir, err := os.MkdirTemp("", "epitaph-test-")
	if err != nil {
		return nil, err
	}
	s := &Server{kind: k, dir: dir}
	if os.Getuid() == 0 {
		if s.cred, err = credential(account); err == nil {
			err = os.Chown(dir, int(s.cred.Uid), int(s.cred.Gid))
		}
	}
	if err == nil {
		err = k.install(s)
	}
	if err == nil {
		err = s.start()
	}
	if err != nil {
		s.remove()
		return nil, err
	}
	return s, nil
}

func credential(account string) (*syscall.Credential, error) {
	u, err := user.Lookup(account)
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// run runs a tool of the server to its end, as the server's user.
func (s *Server) run(name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "TMPDIR="+s.dir) // ours may be closed to that user
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", filepath.Base(name), err, bytes.TrimSpace(out))
	}
	return nil
}

// start starts the server and waits until it answers.
func (s *Server) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	cmd := s.kind.command(s)
	cmd.Dir = s.dir
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred, Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started, done := make(chan error, 1), make(chan struct{})
	go func() {
		// The death signal is tied to the thread that started the child, so
		// this one must live as long as the server.
		runtime.LockOSThread()
		defer close(done)
		err := cmd.Start()
		_ = log.Close()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	s.proc, s.done = cmd.Process, done
	err = s.await(patience)
	if err != nil {
		_ = s.proc.Kill()
		<-s.done
		s.proc = nil
	}
	return err
}

func (s *Server) await(limit time.Duration) error {
	deadline := time.Now().Add(limit)
	for {
		err := s.kind.ping(s)
		if err == nil {
			return nil
		}
		select {
		case <-s.done:
			text, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			return fmt.Errorf("server ended while starting:\n%s", text)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("server does not answer: %w", err)
		}
	}
}

// signal sends sig and waits for the end of the server.
func (s *Server) signal(sig os.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return nil
	}
	if err := s.proc.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-s.done:
	case <-time.After(patience):
		_ = s.proc.Kill()
		<-s.done
	}
	s.proc = nil
	return nil
}

func (s *Server) remove() {
	_ = s.signal(s.kind.graceful())
	// The children of a killed server may write for a moment more.
	for range 100 {
		if os.RemoveAll(s.dir) == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Stop ends the server in order; connections are cut. Start starts it again.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	if err := s.signal(s.kind.graceful()); err != nil {
		t.Fatal(err)
	}
}

// Kill ends the server and its children as a power cut would end them, without
// any farewell.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	proc := s.proc
	s.mu.Unlock()
	if proc == nil {
		return
	}
	// Stopped first, so that it has no more children while they are listed.
	_ = proc.Signal(syscall.SIGSTOP)
	for _, child := range children(proc.Pid) {
		_ = syscall.Kill(child, syscall.SIGKILL)
	}
	if err := s.signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// children lists the processes whose parent is pid.
func children(pid int) []int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	var out []int
	for _, name := range stats {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		// The name of the program, in parentheses, may hold anything.
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if len(fields) < 2 || fields[1] != strconv.Itoa(pid) {
			continue
		}
		if child, err := strconv.Atoi(filepath.Base(filepath.Dir(name))); err == nil {
			out = append(out, child)
		}
	}
	return out
}

// Start starts a server that was stopped or killed, on the same data and
// address.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	// The children of a killed server end a moment after it, and a new server
	// refuses to start while one is left.
	deadline := time.Now().Add(patience)
	for {
		err := s.start()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// freePort returns a port of the loopback on which nobody listens. It lies below
// those that the kernel gives to connections and to servers that ask for any, so
// that it stays free until it is taken, and while its server is away.
func freePort() (int, error) {
	var err error
	for range 1000 {
		port := 20000 + rand.IntN(12768)
		var l net.Listener
		if l, err = net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port)); err == nil {
			return port, l.Close()
		}
	}
	return 0, err
}

// Database makes a new empty database and returns its DSN. The database is
// dropped when the test ends.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("t%d_%d", os.Getpid(), serial.Add(1))
	if err := s.kind.create(s, name); err != nil {
		t.Fatalf("create database: %v", err)
	}
	t.Cleanup(func() {
		s.mu.Lock()
		up := s.proc != nil
		s.mu.Unlock()
		if !up {
			return
		}
		if err := s.kind.drop(s, name); err != nil {
			t.Errorf("drop database: %v", err)
		}
	})
	return s.kind.dsn(s, name)
}

// own registers a server that belongs to one test.
func own(t testing.TB, s *Server, err error) *Server {
	t.Helper()
	if err != nil {
		t.Fatalf("start server: %v", err)
	}
	t.Cleanup(s.remove)
	return s
}
