package e2e

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// hashes are the contents and modes of all files below dir. The lock, which says who last tried, is left out.
func hashes(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() == "LOCK" {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		what := info.Mode().String()
		if info.Mode().IsRegular() {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			what += fmt.Sprintf(" %x", sha256.Sum256(b))
		}
		all[path] = what
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// untouched says which files differ.
func untouched(t *testing.T, before, after map[string]string) {
	t.Helper()
	names := maps.Clone(before)
	maps.Copy(names, after)
	for _, path := range slices.Sorted(maps.Keys(names)) {
		if before[path] != after[path] {
			t.Errorf("%s was %q, is %q", path, before[path], after[path])
		}
	}
}

// refused starts a server that must not start: it names what it should in one short message, and leaves every file as it was.
func refused(t *testing.T, state string, words []string, args ...string) {
	t.Helper()
	before := hashes(t, filepath.Dir(state))
	file := filepath.Join(t.TempDir(), "carrel.yaml")
	if err := os.WriteFile(file, []byte("metrics: {address: 'off'}\nlog: {level: error}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	s, err := start(binary(t), os.Environ(), append([]string{"--state", state, "--simulate", "--api-addr", "127.0.0.1:0", "--portal-addr", "127.0.0.1:0", "--config", file}, args...)...)
	if err == nil {
		_ = s.cmd.Process.Kill()
		<-s.done
		t.Fatalf("it started\n%s", s.out)
	}
	if took := time.Since(begin); took > 30*time.Second {
		t.Errorf("it took %v to say so", took)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the message does not say %q:\n%v", word, err)
		}
	}
	if strings.Contains(err.Error(), "goroutine ") || len(err.Error()) > 4000 {
		t.Errorf("the message is for nobody:\n%v", cut(err.Error(), 1500))
	}
	t.Log(err)
	after := hashes(t, filepath.Dir(state))
	if slices.Contains(words, "--state") || slices.Contains(words, "restore a backup") {
		untouched(t, before, after)
		return
	}
	// What stands beside the store is looked at under the store's lock: its server has then begun a term of office in its own log.
	for _, all := range []map[string]string{before, after} {
		maps.DeleteFunc(all, func(path, _ string) bool { return strings.Contains(path, "/etcd/member/") })
	}
	untouched(t, before, after)
}

// used makes a state directory that has seen a start, some calls and an orderly stop.
func used(t *testing.T) string {
	t.Helper()
	state := filepath.Join(t.TempDir(), "at", "state")
	w := boot(t, state, "")
	w.furnish(t)
	var out created
	w.decode(t, w.must(t, w.jsonCall("workspaces", "CreateWorkspaces", fmt.Sprintf(`{"Workspaces":[{"DirectoryId":%q,"BundleId":%q,"UserName":"ada"}]}`, w.directory, w.bundle))), &out)
	id := out.PendingRequests[0].WorkspaceId
	until(t, 20*time.Second, "AVAILABLE", func() (bool, string) { d := w.desktops(t)[id]; return d.State == "AVAILABLE", d.State })
	w.must(t, w.jsonCall("workspaces", "TerminateWorkspaces", fmt.Sprintf(`{"TerminateWorkspaceRequests":[{"WorkspaceId":%q}]}`, id)))
	until(t, 20*time.Second, "gone", func() (bool, string) { n := len(w.desktops(t)); return n == 0, fmt.Sprint(n) })
	w.stop(t)
	return state
}

// copyOf copies a state directory for one test.
func copyOf(t *testing.T, state string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "at", "state")
	if err := os.MkdirAll(to, 0o700); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(state, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(state, path)
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			if err := os.MkdirAll(filepath.Join(to, rel), 0o700); err != nil {
				return err
			}
			return os.Chmod(filepath.Join(to, rel), info.Mode().Perm())
		case info.Mode().IsRegular():
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(to, rel), b, info.Mode().Perm())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

func only(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) == 0 {
		t.Fatalf("nothing is called %s: %v", pattern, err)
	}
	return found[len(found)-1]
}

// change rewrites a file in place.
func change(t *testing.T, path string, fn func([]byte) []byte) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, fn(b), info.Mode().Perm()); err != nil {
		t.Fatal(err)
	}
}

func garbage(b []byte) []byte { return bytes.Repeat([]byte("garbage "), len(b)/8+1)[:len(b)] }
func half(b []byte) []byte    { return b[:len(b)/2] }

// TestDamagedStateIsRefused: whatever has happened to a state directory, a start says which file it is about and what to do, and
// changes nothing.
func TestDamagedStateIsRefused(t *testing.T) {
	good := used(t)
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, dir string)
		words []string
	}{
		{"a database of random bytes", func(t *testing.T, d string) { change(t, d+"/etcd/member/snap/db", garbage) }, []string{"snap/db", "restore a backup"}},
		{"a database cut off after three pages", func(t *testing.T, d string) {
			change(t, d+"/etcd/member/snap/db", func(b []byte) []byte { return b[:3*os.Getpagesize()] })
		}, []string{"snap/db", "restore a backup"}},
		{"an empty database", func(t *testing.T, d string) {
			change(t, d+"/etcd/member/snap/db", func([]byte) []byte { return nil })
		}, []string{"snap/db", "restore a backup"}},
		{"no database", func(t *testing.T, d string) { remove(t, d+"/etcd/member/snap/db") }, []string{"snap/db", "restore a backup"}},
		{"a log of random bytes", func(t *testing.T, d string) { change(t, only(t, d+"/etcd/member/wal/*.wal"), garbage) }, []string{"wal", "restore a backup"}},
		{"a log with a byte changed in its middle", func(t *testing.T, d string) {
			change(t, only(t, d+"/etcd/member/wal/*.wal"), func(b []byte) []byte { b[4000] ^= 0x40; return b })
		}, []string{"wal", "restore a backup"}},
		{"no log", func(t *testing.T, d string) { remove(t, d+"/etcd/member/wal") }, []string{"wal", "restore a backup"}},
		{"no FORMAT", func(t *testing.T, d string) { remove(t, d+"/etcd/FORMAT") }, []string{"FORMAT"}},
		{"a FORMAT of garbage", func(t *testing.T, d string) { change(t, d+"/etcd/FORMAT", garbage) }, []string{"FORMAT"}},
		{"a FORMAT from the future", func(t *testing.T, d string) {
			change(t, d+"/etcd/FORMAT", func(b []byte) []byte {
				return bytes.Replace(b, []byte(`"carrel-state":1`), []byte(`"carrel-state":9`), 1)
			})
		}, []string{"newer"}},
		{"an authority of garbage", func(t *testing.T, d string) { change(t, d+"/pki/authority.pem", garbage) }, []string{"pki/authority.pem", "restore it from a backup"}},
		{"an authority cut in half", func(t *testing.T, d string) { change(t, d+"/pki/authority.pem", half) }, []string{"pki/authority.pem"}},
		{"an authority without its key", func(t *testing.T, d string) {
			change(t, d+"/pki/authority.pem", func(b []byte) []byte { return b[bytes.Index(b, []byte("-----BEGIN CERTIFICATE")):] })
		}, []string{"pki/authority.pem", "private key", "restore it"}},
		{"an authority that others may read", func(t *testing.T, d string) { chmod(t, d+"/pki/authority.pem", 0o644) }, []string{"pki/authority.pem", "0600"}},
		{"no evidence key, but a log", func(t *testing.T, d string) { remove(t, d+"/evidence/key.pem") }, []string{"evidence/key.pem", "restore the key"}},
		{"an evidence key of garbage", func(t *testing.T, d string) { change(t, d+"/evidence/key.pem", garbage) }, []string{"evidence/key.pem", "backup"}},
		{"another installation's evidence key", func(t *testing.T, d string) {
			other := used(t)
			b, err := os.ReadFile(other + "/evidence/key.pem")
			if err != nil {
				t.Fatal(err)
			}
			change(t, d+"/evidence/key.pem", func([]byte) []byte { return b })
		}, []string{"evidence/log.jsonl", "backup"}},
		{"the last evidence record changed", func(t *testing.T, d string) { change(t, d+"/evidence/log.jsonl", editLast) }, []string{"evidence/log.jsonl", "backup"}},
		{"the last audit record changed", func(t *testing.T, d string) { change(t, only(t, d+"/audit/*/*/*/*.jsonl"), editLast) }, []string{"/audit", "backup"}},
		{"the audit directory emptied", func(t *testing.T, d string) {
			remove(t, d+"/audit")
			if err := os.Mkdir(d+"/audit", 0o700); err != nil {
				t.Fatal(err)
			}
		}, []string{"/audit", "backup"}},
		{"a simulated host of garbage", func(t *testing.T, d string) {
			change(t, d+"/sim/journal", func(b []byte) []byte { return append(garbage(b), '\n') })
		}, []string{"/sim", "journal", "backup"}},
		{"mode 0755", func(t *testing.T, d string) { chmod(t, d, 0o755) }, []string{"0755", "chmod 700"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := copyOf(t, good)
			c.spoil(t, dir)
			refused(t, dir, c.words)
			refused(t, dir, c.words)
			// What was refused is whole but for what was spoilt: with that back in its place it starts.
			for _, name := range []string{"pki/authority.pem", "evidence/key.pem", "evidence/log.jsonl"} {
				b, err := os.ReadFile(filepath.Join(good, name))
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
					t.Fatal(err)
				}
				chmod(t, filepath.Join(dir, name), 0o600)
			}
			if slices.Contains(c.words, "pki/authority.pem") || strings.Contains(c.name, "evidence") {
				w := boot(t, dir, "")
				w.furnish(t)
				w.stop(t)
				if out := w.carrel(t, "audit", "verify"); !strings.Contains(out, "are chained") {
					t.Error(out)
				}
			}
		})
	}
	t.Run("another region", func(t *testing.T) {
		refusedButMigrated(t, copyOf(t, good), []string{"--region", "us-east-1"}, "--region", "eu-west-1")
	})
	t.Run("another account", func(t *testing.T) {
		refusedButMigrated(t, copyOf(t, good), []string{"--account-id"}, "--account-id", "999999999999")
	})
}

// refusedButMigrated is refused for what only the records can tell: the store has been opened then, and its own files may have moved on.
func refusedButMigrated(t *testing.T, state string, words []string, args ...string) {
	t.Helper()
	_, err := tryBoot(t, state, "", args...)
	if err == nil {
		t.Fatal("it started")
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the message does not say %q: %v", word, err)
		}
	}
	boot(t, state, "").stop(t)
}

// editLast changes one letter in the last line.
func editLast(b []byte) []byte {
	at := bytes.LastIndexByte(b[:len(b)-1], '\n') + 1
	i := at + (len(b)-at)/2
	if b[i]++; b[i] == '"' || b[i] == '\\' || b[i] > 'z' {
		b[i] = 'a'
	}
	return b
}

func remove(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

func chmod(t *testing.T, path string, mode fs.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// TestForeignStateIsRefused: a place that is somebody else's stays theirs.
func TestForeignStateIsRefused(t *testing.T) {
	home := func(t *testing.T, name, text string) string {
		dir := filepath.Join(t.TempDir(), "at", "home")
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	t.Run("somebody's home", func(t *testing.T) {
		refused(t, home(t, ".bashrc", "alias ls='ls -l'\n"), []string{".bashrc", "--state"})
	})
	t.Run("another program's etcd", func(t *testing.T) {
		refused(t, home(t, "etcd/member/snap/db", "theirs"), []string{"etcd", "FORMAT"})
	})
	t.Run("something else in the store's directory", func(t *testing.T) {
		refused(t, home(t, "etcd/notes.txt", "mine"), []string{"notes.txt"})
	})
	t.Run("a file in place of the directory", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "at")
		if err := os.WriteFile(path, []byte("a file"), 0o600); err != nil {
			t.Fatal(err)
		}
		refused(t, path, []string{path, "not a directory"})
	})
	t.Run("a port that is taken", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		dir := filepath.Join(t.TempDir(), "at", "state")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		refused(t, dir, []string{l.Addr().String(), "address already in use", "--api-addr"}, "--api-addr", l.Addr().String())
		refused(t, dir, []string{l.Addr().String(), "address already in use", "--portal-addr"}, "--portal-addr", l.Addr().String())
	})
	t.Run("a place that cannot be written", func(t *testing.T) {
		if _, err := tryBoot(t, "/proc/carrel/state", ""); err == nil || !strings.Contains(err.Error(), "/proc/carrel") || strings.Contains(err.Error(), "goroutine") {
			t.Error(err)
		}
	})
}

// TestSecondProcessIsRefused: the first one is named and not harmed, and its operator socket stays its own.
func TestSecondProcessIsRefused(t *testing.T) {
	w := boot(t, filepath.Join(t.TempDir(), "state"), "")
	_, err := tryBoot(t, w.state, "")
	if err == nil || !strings.Contains(err.Error(), "pid "+strconv.Itoa(w.cmd.Process.Pid)) {
		t.Errorf("the second says %v; the first has pid %d", err, w.cmd.Process.Pid)
	}
	w.must(t, w.jsonCall("workspaces", "CreateIpGroup", `{"GroupName":"still here"}`))
	if out := w.carrel(t, "status", "--json"); !strings.Contains(out, strconv.Itoa(w.cmd.Process.Pid)) {
		t.Errorf("status: %s", out)
	}
	w.stop(t)
}

const roomMiB = 700

// TestFullDisk fills the disk under a running server: writes are refused with a clear error, reads go on; with room again writes work
// again, and a restart finds everything.
func TestFullDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	// A mount namespace of this thread alone: nothing is left behind, whatever happens. Children are started from it.
	runtime.LockOSThread()
	err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS)
	if err == nil {
		err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	}
	if err == nil {
		err = unix.Mount("carrel-test", dir, "tmpfs", 0, fmt.Sprintf("size=%dm,mode=0700", roomMiB))
	}
	if err != nil {
		// A thread that stays locked ends with its goroutine.
		t.Skipf("NOT TESTED: a full disk. This process may not mount a file system (%v): run it as root with CAP_SYS_ADMIN", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	state := filepath.Join(dir, "state")
	w := boot(t, state, "requests: {deadline: 5s}\n")
	w.must(t, w.jsonCall("workspaces", "CreateIpGroup", `{"GroupName":"before"}`))
	acknowledged := []string{"before"}
	for _, leave := range []int64{200 << 20, 1 << 20, 0} {
		// No subtests: they would run on other threads, which do not see the disk.
		t.Logf("%d MiB left", leave>>20)
		written(t, state)
		filler := fill(t, dir, leave)
		for i := range 5 {
			name := fmt.Sprintf("full %d %d", leave, i)
			begin := time.Now()
			a, err := w.do(t.Context(), w.jsonCall("workspaces", "CreateIpGroup", fmt.Sprintf(`{"GroupName":%q}`, name)).sign(t))
			if err != nil {
				t.Fatalf("no answer: %v\n%s", err, tail(w.out.String(), 2000))
			}
			if a.status == http.StatusOK {
				acknowledged = append(acknowledged, name)
			}
			if a.code != "ServiceUnavailableException" || time.Since(begin) > 10*time.Second {
				t.Errorf("a write after %v: %v", time.Since(begin), a)
			}
			t.Log(a)
			if a := w.must(t, w.jsonCall("workspaces", "DescribeIpGroups", "{}")); !strings.Contains(a.body, `"before"`) {
				t.Errorf("a read: %v", a)
			}
		}
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("after %d", leave)
		until(t, 20*time.Second, "writes work again", func() (bool, string) {
			if !w.alive() {
				t.Fatalf("the server has ended: %v\n%s", w.err, tail(w.out.String(), 3000))
			}
			a, err := w.do(t.Context(), w.jsonCall("workspaces", "CreateIpGroup", fmt.Sprintf(`{"GroupName":%q}`, name)).sign(t))
			return err == nil && (a.status == http.StatusOK || a.code == "ResourceAlreadyExistsException"), fmt.Sprint(a, err)
		})
		acknowledged = append(acknowledged, name)
	}
	w.stop(t)
	w = boot(t, state, "")
	have := w.groups(t)
	for _, name := range acknowledged {
		if !have[name] {
			t.Errorf("%q was acknowledged and is gone", name)
		}
	}
	w.stop(t)
	if out := w.carrel(t, "audit", "verify"); !strings.Contains(out, "are chained") {
		t.Errorf("audit verify: %s", out)
	}
}

// written waits until etcd has put the last changes into its pages, which it does a tenth of a second after they are durable: what is not there yet when
// the last byte of a disk is taken ends it (docs/operate), and is found again by the next start.
func written(t *testing.T, state string) {
	t.Helper()
	until(t, 20*time.Second, "etcd has written its pages", func() (bool, string) {
		info, err := os.Stat(filepath.Join(state, "etcd", "member", "snap", "db"))
		if err != nil {
			return false, err.Error()
		}
		return time.Since(info.ModTime()) > 300*time.Millisecond, info.ModTime().String()
	})
}

// fill writes a file that leaves so many bytes on dir's file system.
func fill(t *testing.T, dir string, leave int64) string {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "filler")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, int64(st.Bavail)*st.Bsize-max(leave, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if leave == 0 {
		// To the last byte.
		_, err := f.Seek(0, 2)
		for block := make([]byte, 4096); err == nil; {
			_, err = f.Write(block)
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
	return path
}
