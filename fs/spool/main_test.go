package spool

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The test binary runs itself again with this variable set, to be another
// process: "ROLE DIR".
const roleVar = "SPOOL_TEST_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVar); role != "" {
		name, dir, _ := strings.Cut(role, " ")
		if err := roles[name](dir); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// roles is what another process does; it says on its output how far it is.
var roles = map[string]func(dir string) error{
	"open":   roleOpen,
	"append": roleAppend,
	"limit":  roleLimit,
}

// roleOpen tries to open the spool, and says which process has it.
func roleOpen(dir string) error {
	s, err := Open(dir)
	var locked *LockedError
	if errors.As(err, &locked) {
		fmt.Println("locked by", locked.PID)
		return nil
	}
	if err != nil {
		return err
	}
	fmt.Println("opened")
	return s.Close()
}

// roleAppend appends records and names each when it is acknowledged, for ever.
func roleAppend(dir string) error {
	s, err := Open(dir)
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		if err := s.WriteAt(1, record(i), int64(i)*recordSize); err != nil {
			return err
		}
		if err := s.AppendAll(record(2*i), record(2*i+1)); err != nil {
			return err
		}
		fmt.Println(i)
	}
}

// roleLimit appends until the size of files is limited, and proves that the
// journal is still good.
func roleLimit(dir string) error {
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 10000, Max: 10000}); err != nil {
		return err
	}
	s, err := Open(dir)
	if err != nil {
		return err
	}
	defer s.Close()
	n, err := appendUntilFull(s)
	if err != nil {
		return err
	}
	fmt.Println("full after", n)
	return nil
}

// other starts this test binary as another process in the given role.
func other(t *testing.T, role, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVar+"="+role+" "+dir)
	return cmd
}

func TestLock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s := mustOpen(t, dir)
	for _, c := range []struct{ when, want string }{
		{"held", fmt.Sprintf("locked by %d\n", os.Getpid())},
		{"closed", "opened\n"},
	} {
		out, err := other(t, "open", dir).CombinedOutput()
		if err != nil || string(out) != c.want {
			t.Errorf("%s: got %q, %v; want %q", c.when, out, err, c.want)
		}
		if c.when == "held" {
			_, err := Open(dir)
			var locked *LockedError
			if !errors.As(err, &locked) || locked.PID != os.Getpid() || locked.Dir != dir {
				t.Errorf("open in the same process: %v", err)
			}
		}
		s.Close()
	}
}

// TestKill kills a process that appends, with kill -9: everything it had said
// is there, and nothing is half there.
func TestKill(t *testing.T) {
	for round := range 8 {
		dir := filepath.Join(t.TempDir(), "spool")
		cmd := other(t, "append", dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		said := -1
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if _, err := fmt.Sscan(lines.Text(), &said); err != nil {
				t.Fatalf("child: %q", lines.Text())
			}
			if said == 20*(round+1) {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		cmd.Wait()
		s := mustOpen(t, dir)
		got := replay(t, s)
		if len(got) < 2*(said+1) || len(got)%2 != 0 {
			t.Fatalf("%d pairs were acknowledged, %d records are there", said+1, len(got))
		}
		isPrefix(t, got)
		buf := make([]byte, recordSize)
		for i := range said + 1 {
			want := record(i)
			if err := s.ReadAt(1, buf[:len(want)], int64(i)*recordSize); err != nil {
				t.Fatal(err)
			}
			if string(buf[:len(want)]) != string(want) {
				t.Fatalf("data of write %d: %q", i, buf)
			}
		}
		s.Close()
	}
}

// TestFileSizeLimit meets a write that fails half way, which needs no rights.
func TestFileSizeLimit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	out, err := other(t, "limit", dir).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var n int
	if _, err := fmt.Sscanf(string(out), "full after %d", &n); err != nil || n < 4 {
		t.Fatalf("%q: %v", out, err)
	}
	s := mustOpen(t, dir)
	defer s.Close()
	if got := replay(t, s); len(got) != n {
		t.Fatalf("%d records, want %d", len(got), n)
	}
}
