package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// inHolder runs a program in the kit's namespaces.
func (k *kit) inHolder(args ...string) {
	k.t.Helper()
	all := append([]string{"--target", strconv.Itoa(k.holder), "--mount", "--net", "--"}, args...)
	if out, err := exec.Command("nsenter", all...).CombinedOutput(); err != nil {
		k.t.Fatalf("%s: %v: %s", args, err, out)
	}
}

// A disk is a small file system for a store, in the kit's namespace, seen from here through the holder.
type disk struct {
	k    *kit
	root string // as the kit sees it
	here string // as we see it
}

// newDisk makes a file system of so many MiB and has the store be on it.
func (k *kit) newDisk(kind string, size int) *disk {
	k.t.Helper()
	d := &disk{k: k, root: "/run/disk"}
	k.inHolder("mkdir", "-p", d.root)
	if kind == "tmpfs" {
		k.inHolder("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%dm", size), "none", d.root)
	} else {
		image := filepath.Join(k.dir, "disk")
		k.inHolder("truncate", "-s", fmt.Sprintf("%dM", size), image)
		k.inHolder("mkfs.ext4", "-q", "-F", "-m", "0", "-N", "4096", image)
		k.inHolder("mount", "-o", "loop,noauto_da_alloc", image, d.root) // which writes nothing early by itself, as other file systems do not
	}
	k.t.Cleanup(func() {
		_ = exec.Command("nsenter", "--target", strconv.Itoa(k.holder), "--mount", "--", "umount", d.root).Run()
	})
	k.root = d.root + "/store"
	d.here = fmt.Sprintf("/proc/%d/root%s", k.holder, d.root)
	return d
}

func (d *disk) free() int64 {
	var st syscall.Statfs_t
	if err := syscall.Statfs(d.here, &st); err != nil {
		d.k.t.Fatal(err)
	}
	return int64(st.Bavail) * st.Bsize
}

// fill leaves so many bytes free.
func (d *disk) fill(leave int64) {
	d.k.t.Helper()
	f, err := os.OpenFile(d.here+"/ballast", os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		d.k.t.Fatal(err)
	}
	defer f.Close()
	for _, unit := range []int{1 << 20, 4096, 512, 1} {
		for d.free()-leave >= int64(unit) {
			if _, err := f.Write(make([]byte, unit)); err != nil {
				break
			}
		}
	}
}

func (d *disk) empty() {
	if err := os.Remove(d.here + "/ballast"); err != nil {
		d.k.t.Fatal(err)
	}
}

// TestFullDisk fills the disk under each command. The message names what could not be written, the space comes back, and
// what frees space works without any.
func TestFullDisk(t *testing.T) {
	for _, kind := range []string{"tmpfs", "ext4"} {
		t.Run(kind, func(t *testing.T) {
			k := newKit(t)
			if kind == "ext4" {
				needs(t, "mkfs.ext4")
			}
			address, _ := k.serve("registry")
			k.context("big", "FROM base\nRUN dd if=/dev/urandom of=/big bs=64k count=64\n")
			k.context("copy", "FROM base\nCOPY rubbish /\n")
			k.write("copy/rubbish", string(rubbish(4<<20)))
			k.base()
			k.must("build", "-q", "-t", address+"/big:1", "big")
			k.must("save", "-o", "big.tar", address+"/big:1")
			k.must("push", address+"/big:1")
			d := k.newDisk(kind, 32)
			k.base()
			k.must("tag", "base", "other")
			k.must("run", "--rm", "base", "true") // unpacks it where nothing else can be done
			k.must("system", "prune", "-f")
			for _, leave := range []int64{0, 64 << 10, 2 << 20} {
				for _, args := range [][]string{
					{"build", "-t", "new", "big"},
					{"build", "-t", "new", "copy"},
					{"load", "-i", "big.tar"},
					{"pull", address + "/big:1"},
					{"import", "big.tar", "new"},
					{"run", "--rm", "base", "dd", "if=/dev/zero", "of=/x", "bs=64k", "count=64"},
				} {
					before := d.free()
					d.fill(leave)
					k.full(d, args)
					if leave == 0 {
						k.must("images")
						k.must("system", "df")
						k.do(k.command("system", "fsck"))
						k.must("system", "prune", "-f")
					}
					d.empty()
					k.must("system", "prune", "-f")
					if after := d.free(); after < before-64<<10 {
						out, _ := exec.Command("find", d.here, "-size", "+8", "-ls").CombinedOutput()
						t.Errorf("forge %s, %d KiB free: %d KiB of the disk have not come back\n%s", args, leave>>10, (before-after)>>10, out)
					}
					if t.Failed() {
						return
					}
				}
			}
			if got := k.images(); !slices.Equal(got, []string{"base:latest", "other:latest"}) {
				t.Errorf("images = %v", got)
			}
			k.sound("full disk")
			d.fill(0)
			k.must("rmi", "other")
			k.must("rmi", "base")
			k.must("system", "prune", "-f", "-a")
			if got := k.images(); len(got) > 0 {
				t.Errorf("images = %v", got)
			}
			d.empty()
			k.base()
			k.sound("emptied disk")
			k.tidy("emptied disk")
		})
	}
}

// TestFullDiskVolume: a volume for which there is no room is empty, and the next container that uses it fills it.
func TestFullDiskVolume(t *testing.T) {
	k := newKit(t)
	d := k.newDisk("tmpfs", 32)
	k.base()
	k.context("app", "FROM base\nCOPY rubbish /data/\n")
	k.write("app/rubbish", string(rubbish(4<<20)))
	k.must("build", "-q", "-t", "app", "app")
	k.must("run", "--rm", "app", "true") // unpacks it where nothing else can be done
	k.must("system", "prune", "-f")
	d.fill(1 << 20)
	k.full(d, []string{"run", "--rm", "-v", "data:/data", "-v", "/etc", "app", "true"})
	if got := k.must("volume", "ls", "-q"); got != "data\n" {
		t.Errorf("volumes: %s", got)
	}
	if got := k.must("run", "--rm", "-v", "data:/data:nocopy", "base", "ls", "-A", "/data"); got != "" {
		t.Errorf("the volume has %s", got)
	}
	d.empty()
	if got := k.must("run", "--rm", "-v", "data:/data", "app", "cmp", "/data/rubbish", "/data/rubbish"); got != "" {
		t.Error(got)
	}
	d.fill(0)
	k.must("volume", "rm", "data")
	d.empty()
	k.tidy("full disk")
}

// full runs what cannot succeed.
func (k *kit) full(d *disk, args []string) {
	k.t.Helper()
	a := k.do(k.command(args...))
	if a.ProcessState.Success() {
		k.t.Errorf("forge %s: succeeded on a full disk", a)
	}
	text := a.err.String()
	if !strings.Contains(text, "no space left on device") && !strings.Contains(text, "No space left on device") {
		k.t.Errorf("forge %s: the message does not tell that the disk is full: %s", a, text)
	}
	if !strings.Contains(text, d.root) && args[0] != "run" && args[0] != "build" {
		k.t.Errorf("forge %s: the message names no path: %s", a, text)
	}
}

func rubbish(n int) []byte {
	b := make([]byte, n)
	source := rand.NewChaCha8([32]byte{1})
	_, _ = source.Read(b)
	return b
}

// TestPowerCut looks at what of a disk is written when a command ends or is in the midst of its work: what is not would
// be lost with the power.
func TestPowerCut(t *testing.T) {
	needs(t, "mkfs.ext4")
	k := newKit(t)
	address, _ := k.serve("registry")
	remote := address + "/app:1"
	k.context("app", twoStages)
	k.base()
	k.must("build", "-q", "-t", remote, "app")
	k.must("push", remote)
	k.must("save", "-o", "app.tar", remote)
	k.newDisk("ext4", 64)
	k.inHolder("mkdir", "-p", "/run/cut")
	for _, args := range [][]string{
		{"import", "base.tar", "base"},
		{"import", "--change", "ENV PATH=/bin", "base.tar", "base"},
		{"build", "-q", "-t", "app", "app"},
		{"build", "--no-cache", "-q", "-t", "app", "app"},
		{"tag", "base", "app"},
		{"load", "-i", "app.tar"},
		{"rmi", remote},
		{"pull", remote},
		{"tag", remote, "other"},
		{"--snapshotter=overlay", "build", "--no-cache", "-q", "-t", "app", "app"},
		{"system", "prune", "-f"},
		{"system", "prune", "-a", "-f"},
		{"pull", remote}, // with all its blobs
	} {
		for range scale(t, "FORGE_TEST_CUTS", 1) {
			if args[0] == "rmi" || args[len(args)-1] == "-f" {
				break // they are for once
			}
			a := k.start(k.command(args...))
			time.Sleep(rand.N(150 * time.Millisecond))
			_ = a.Process.Signal(syscall.SIGSTOP)
			k.copyDisk()
			_ = a.Process.Kill() // before anything else: it may hold a lock of the network
			_ = a.Wait()
			k.cut("amid forge "+a.String(), nil)
		}
		k.must(args...)
		k.copyDisk()
		k.cut("after forge "+strings.Join(args, " "), k.images())
	}
	k.must("import", "base.tar", "base")
	k.inHolder("sync") // what those that were killed have left
	k.context("another", "FROM base\nRUN echo another > /another\nRUN echo more > /more\n")
	k.must("build", "-q", "-t", "another", "another")
	k.copyDisk()
	k.entriesWritten()
}

// copyDisk copies the disk as it is written now.
func (k *kit) copyDisk() {
	k.t.Helper()
	k.inHolder("cp", filepath.Join(k.dir, "disk"), filepath.Join(k.dir, "cut"))
}

// entriesWritten holds that what a build has left in the cache is on the disk.
func (k *kit) entriesWritten() {
	k.t.Helper()
	k.inHolder("mount", "-o", "loop", filepath.Join(k.dir, "cut"), "/run/cut")
	defer k.inHolder("umount", "/run/cut")
	k.inHolder("sh", "-c", "cd /run/cut/store/cache && test -n \"$(find . -maxdepth 1 -type f)\" && test -z \"$(find . -maxdepth 1 -type f -size 0)\"")
}

// cut looks at the copy. The names are of the images that have to be there.
func (k *kit) cut(when string, names []string) {
	k.t.Helper()
	k.inHolder("mount", "-o", "loop", filepath.Join(k.dir, "cut"), "/run/cut")
	defer k.inHolder("umount", "/run/cut")
	after := *k
	after.root = "/run/cut/store"
	if names != nil {
		if got := after.images(); !slices.Equal(got, names) {
			k.t.Errorf("power cut %s: images = %v, want %v", when, got, names)
		}
	}
	after.sound("power cut " + when)
	after.must("import", "base.tar", "another")
	after.must("system", "fsck", "--deep")
	after.must("system", "prune", "-f")
	after.litter("power cut " + when)
	if k.t.Failed() {
		k.t.FailNow()
	}
}

// TestDamage damages every file of a store in turn, in several ways. No command falls over, none hands on what is wrong,
// fsck names the file, and what it repairs works.
func TestDamage(t *testing.T) {
	k := newKit(t)
	k.base()
	k.context("app", twoStages)
	address, _ := k.serve("registry")
	remote := address + "/app:1"
	k.must("build", "-q", "-t", "app", "app")
	k.must("tag", "app", remote)
	k.must("push", remote)
	k.must("rmi", "app", remote)
	k.must("pull", remote) // so there are layers compressed and not
	k.must("tag", remote, "app")
	k.must("save", "-o", "app.tar", "app")
	k.must("--snapshotter=overlay", "run", "--rm", "app", "true")
	k.snapshot("whole")
	files := map[string][]string{} // by directory
	_ = filepath.WalkDir(k.root, func(path string, d fs.DirEntry, _ error) error {
		rel, _ := filepath.Rel(k.root, path)
		dir := filepath.Dir(rel)
		if d.IsDir() && (rel == "mounts" || dir == "snapshots") {
			return fs.SkipDir // what is in them belongs to those who wrote it
		}
		// A lock has no content, and of events, those of builds too, a line that makes no sense is stepped over.
		if d.Type().IsRegular() && rel != "lock" && rel != "events" && dir != "builds" && strings.HasPrefix(rel, os.Getenv("FORGE_TEST_DAMAGE")) {
			files[dir] = append(files[dir], rel)
		}
		return nil
	})
	_, all := os.LookupEnv("FORGE_TEST_DAMAGE") // every file whose name begins so, and not one of each kind
	count := 0
	for _, some := range files {
		for _, way := range []string{"empty", "cut", "flip"} {
			chosen := some
			if !all {
				chosen = []string{some[rand.N(len(some))]}
			}
			for _, file := range chosen {
				k.restore("whole")
				if damage(t, filepath.Join(k.root, file), way) {
					k.damaged(file, way)
					count++
				}
			}
		}
	}
	t.Logf("%d damages", count)
}

// damage changes a file and keeps its times. It reports whether it could.
func damage(t *testing.T, path, way string) bool {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil || len(data) == 0 {
		return false
	}
	switch way {
	case "empty":
		data = nil
	case "cut":
		data = data[:len(data)/2]
	case "flip":
		data = bytes.Clone(data)
		data[len(data)/2] ^= 0x04
	}
	if err := os.WriteFile(path, data, info.Mode()); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	return true
}

// damaged uses a damaged store.
func (k *kit) damaged(file, way string) {
	k.t.Helper()
	what := file + " (" + way + ")"
	fsck := k.do(k.command("system", "fsck", "--deep"))
	silent := slices.Contains([]string{"version", "images/oci-layout", "snapshots/probe"}, file) || // are written anew, or refused
		way == "empty" && (strings.HasPrefix(file, "cache/") || strings.HasPrefix(file, "contexts/")) // as a power cut leaves what was not synced
	base := filepath.Base(file)
	if !silent && (fsck.ProcessState.Success() || !strings.Contains(fsck.out.String(), base)) {
		k.t.Errorf("%s: fsck --deep does not name it: %v\n%s%s", what, fsck.ProcessState, fsck.out.String(), fsck.err.String())
	}
	if silent && way == "flip" || file == "version" && way == "cut" {
		return // of another version, for all that anybody can tell
	}
	for _, args := range [][]string{
		{"images"},
		{"history", "app"},
		{"inspect", "app"},
		{"system", "df", "-v"},
		{"build", "--explain", "-t", "again", "app"},
		{"run", "--rm", "app", "true"},
		{"--snapshotter=overlay", "run", "--rm", "base", "true"},
		{"tag", "app", "new"},
	} {
		k.do(k.command(args...)) // may fail, but not fall over
	}
	if a := k.do(k.command("save", "-o", "saved.tar", "app")); a.ProcessState.Success() {
		other := *k
		other.root = filepath.Join(k.dir, "elsewhere")
		_ = os.RemoveAll(other.root)
		other.must("load", "-i", "saved.tar") // which verifies
	}
	repair := k.do(k.command("system", "fsck", "--deep", "--repair"))
	if !repair.ProcessState.Success() {
		k.t.Errorf("%s: fsck --repair: %v: %s%s", what, repair.ProcessState, repair.out.String(), repair.err.String())
	}
	k.sound("repair of " + what)
	k.base()
	k.must("build", "-q", "-t", "app", "app")
	k.must("load", "-i", "app.tar")
	k.sound("repair of " + what + " and a build")
	k.must("system", "prune", "-f")
}

// TestSurroundings runs commands with little around them.
func TestSurroundings(t *testing.T) {
	k := newKit(t)
	k.base()
	k.context("app", twoStages)
	sh := func(script string) []string { return []string{"sh", "-c", script + `; exec "$@"`, "sh"} }
	for _, test := range []struct {
		name   string
		prefix []string
	}{
		{"no HOME", []string{"env", "-u", "HOME"}},
		{"no TMPDIR", []string{"env", "-u", "TMPDIR"}},
		{"wrong TMPDIR", []string{"env", "TMPDIR=/nonexistent"}},
		{"no environment", []string{"env", "-i", "PATH=" + os.Getenv("PATH"), "FORGE_ROOT=" + k.root}},
		{"closed stdin", sh("exec <&-")},
		{"closed stdout", sh("exec >&-")},
		{"closed stdio", sh("exec <&- >&- 2>&-")},
		{"64 files", []string{"prlimit", "--nofile=64:64"}},
		{"umask 0", sh("umask 0")},
		{"umask 777", sh("umask 777")},
	} {
		for _, args := range [][]string{
			{"build", "--no-cache", "-t", "app", "app"}, {"run", "--rm", "app", "true"}, {"images"}, {"save", "-o", "x.tar", "app"}, {"load", "-i", "x.tar"},
		} {
			if a := k.do(k.through(test.prefix, args...)); !a.ProcessState.Success() {
				t.Errorf("%s: forge %s: %v: %s", test.name, a, a.ProcessState, a.err.String())
			}
		}
	}
	// What does not fit fails in order.
	for _, prefix := range [][]string{{"prlimit", "--fsize=2000:2000"}, {"prlimit", "--nofile=16:16"}} {
		for _, args := range [][]string{{"build", "--no-cache", "-t", "none", "app"}, {"import", "base.tar", "none"}, {"save", "-o", "none.tar", "app"}} {
			a := k.do(k.through(prefix, args...))
			if a.ProcessState.Success() && prefix[1] != "--nofile=16:16" {
				t.Errorf("%s forge %s: succeeded", prefix, a)
			}
			if a.signal() != 0 || !a.ProcessState.Success() && !strings.Contains(a.err.String(), "forge: ") {
				t.Errorf("%s forge %s: %v: %s", prefix, a, a.ProcessState, a.err.String())
			}
		}
	}
	if left, _ := filepath.Glob(filepath.Join(k.dir, ".none*")); len(left) > 0 {
		t.Errorf("left: %s", left)
	}
	k.sound("odd surroundings")
	k.tidy("odd surroundings")
}

// TestClock has all files be of other times. Nothing is decided by the clock but the order in which a cache forgets.
func TestClock(t *testing.T) {
	k := newKit(t)
	k.base()
	k.context("app", twoStages)
	k.must("build", "-q", "-t", "app", "app")
	for _, when := range []time.Time{time.Unix(0, 0), time.Now().Add(20 * 365 * 24 * time.Hour)} {
		err := filepath.WalkDir(k.dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type()&fs.ModeSymlink == 0 {
				err = os.Chtimes(path, when, when)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		a := k.do(k.command("build", "--progress=plain", "-t", "app", "app"))
		if text := a.out.String() + a.err.String(); !a.ProcessState.Success() || !strings.Contains(text, "(6 cached, 0 run)") {
			t.Errorf("build with files of %v: %v, and not from the cache: %s", when, a.ProcessState, text)
		}
		k.sound("a change of the clock")
	}
	k.must("system", "prune", "-f")
	k.sound("prune")
}

// TestReadOnly uses a store that cannot be written to: what only reads works, the rest says why not.
func TestReadOnly(t *testing.T) {
	k := newKit(t)
	k.base()
	k.inHolder("mount", "--bind", "-o", "ro", k.root, k.root)
	k.inHolder("mount", "-o", "remount,bind,ro", k.root)
	for _, args := range [][]string{{"images"}, {"inspect", "base"}, {"history", "base"}, {"save", "-o", "x.tar", "base"}} {
		k.must(args...)
	}
	k.context("app", twoStages)
	for _, args := range [][]string{{"build", "-t", "app", "app"}, {"tag", "base", "x"}, {"rmi", "base"}, {"load", "-i", "x.tar"}, {"system", "prune", "-a", "-f"}} {
		a := k.do(k.command(args...))
		if a.ProcessState.Success() || !strings.Contains(a.err.String(), "read-only file system") || !strings.Contains(a.err.String(), k.root) {
			t.Errorf("forge %s in a read-only store: %v: %s", a, a.ProcessState, a.err.String())
		}
	}
	k.inHolder("umount", k.root)
	k.sound("reading only")
}
