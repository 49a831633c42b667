package executor

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/forge-build/forge/cache"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/snapshot/filetree"
)

// A tree is written as a list of files, parted by "; ":
//
//	dir/            [MODE] [UID:GID]
//	file =CONTENT   [MODE] [UID:GID] [NAME:VALUE of an xattr] [#N: hard link of all that have this number]
//	link ->TARGET   [UID:GID]
//	fifo |
//	dev  cMAJOR,MINOR
//
// What is left out is 755, 644 and 0:0. The root and "dir/" for directories on the way may be left out.
func parseTree(t *testing.T, spec string) map[string]treeFile {
	t.Helper()
	files := make(map[string]treeFile)
	inodes := make(map[string]uint64)
	for _, line := range strings.Split(spec, "; ") {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		name, isDir := strings.CutSuffix(fields[0], "/")
		f := treeFile{Entry: snapshot.Entry{Mode: syscall.S_IFREG | 0o644, ModTime: testTime, Nlink: 1}}
		if isDir {
			f.Mode = syscall.S_IFDIR | 0o755
		}
		for _, field := range fields[1:] {
			switch {
			case strings.HasPrefix(field, "->"):
				f.Mode, f.Link = syscall.S_IFLNK|0o777, field[2:]
			case field[0] == '=':
				f.content = field[1:]
				f.Size = int64(len(f.content))
			case field[0] == '#':
				if inodes[field] == 0 {
					inodes[field] = uint64(len(inodes) + 1)
				}
				f.Inode, f.Nlink = inodes[field], 2
			case field == "|":
				f.Mode = syscall.S_IFIFO | 0o644
			case field[0] == 'c':
				var major, minor int64
				_, _ = fmt.Sscanf(field, "c%d,%d", &major, &minor)
				f.Mode, f.Rdev = syscall.S_IFCHR|0o644, deviceNumber(major, minor)
			case strings.Contains(field, "user.") || strings.Contains(field, "security."):
				k, v, _ := strings.Cut(field, ":")
				f.Xattrs = map[string]string{k: v}
			case strings.Contains(field, ":"):
				_, _ = fmt.Sscanf(field, "%d:%d", &f.UID, &f.GID)
			default:
				mode, err := strconv.ParseUint(field, 8, 32)
				if err != nil {
					t.Fatalf("%q: %v", line, err)
				}
				f.Mode = f.Mode&syscall.S_IFMT | uint32(mode)
			}
		}
		files[name] = f
	}
	return files
}

type treeFile struct {
	snapshot.Entry
	content string
}

var testTime = time.Unix(1_600_000_000, 0)

// printTree is the inverse of parseTree.
func printTree(t *testing.T, tree snapshot.Tree) string {
	t.Helper()
	var lines []string
	links, numbers := map[uint64]int{}, map[uint64]int{}
	var count, walk func(dir string)
	each := func(dir string, fn func(name string, e snapshot.Entry)) {
		entries, err := filetree.ReadDir(tree, dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			fn(path.Join(dir, e.Name), e)
		}
	}
	count = func(dir string) {
		each(dir, func(name string, e snapshot.Entry) {
			if isDir(&e) {
				count(name)
			} else {
				links[e.Inode]++
			}
		})
	}
	count(".")
	walk = func(dir string) {
		each(dir, func(name string, e snapshot.Entry) {
			lines = append(lines, printEntry(t, tree, name, &e, links, numbers))
			if isDir(&e) {
				walk(name)
			}
		})
	}
	walk(".")
	return strings.Join(lines, "; ")
}

func printEntry(t *testing.T, tree snapshot.Tree, name string, e *snapshot.Entry, links, numbers map[uint64]int) string {
	t.Helper()
	b := strings.Builder{}
	b.WriteString(name)
	usual := uint32(0o644)
	switch e.Mode & syscall.S_IFMT {
	case syscall.S_IFDIR:
		b.WriteString("/")
		usual = 0o755
	case syscall.S_IFLNK:
		b.WriteString(" ->" + e.Link)
		usual = 0o777
	case syscall.S_IFIFO:
		b.WriteString(" |")
	case syscall.S_IFCHR:
		fmt.Fprintf(&b, " c%d,%d", e.Rdev>>8&0xfff, e.Rdev&0xff)
	case syscall.S_IFREG:
		r, err := tree.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = r.Close()
		b.WriteString(" =" + string(content))
	}
	if mode := e.Mode & permBits; mode != usual {
		fmt.Fprintf(&b, " %o", mode)
	}
	if e.UID != 0 || e.GID != 0 {
		fmt.Fprintf(&b, " %d:%d", e.UID, e.GID)
	}
	var xattrs []string
	for k, v := range e.Xattrs {
		xattrs = append(xattrs, " "+k+":"+v)
	}
	sort.Strings(xattrs)
	b.WriteString(strings.Join(xattrs, ""))
	if !isDir(e) && links[e.Inode] > 1 {
		if numbers[e.Inode] == 0 {
			numbers[e.Inode] = len(numbers) + 1
		}
		fmt.Fprintf(&b, " #%d", numbers[e.Inode])
	}
	return b.String()
}

// testLocal is a worker with a store of its own and nothing in it.
func testLocal(t testing.TB) *Local {
	t.Helper()
	root := t.TempDir()
	st, err := image.OpenStaging(root)
	if err != nil {
		t.Fatal(err)
	}
	layout, err := image.OpenLayout(root, st)
	if err != nil {
		t.Fatal(err)
	}
	store, err := snapshot.Open(root, layout, snapshot.Options{})
	if err != nil {
		t.Fatal(err)
	}
	known, err := cache.Open(filepath.Join(root, "cache"))
	if err != nil {
		t.Fatal(err)
	}
	w := &Local{Snapshots: store, Layout: layout, Cache: known, Contexts: map[string]snapshot.Tree{}}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		_ = st.Close()
	})
	return w
}

// testLayers makes a layer of a list of files; an empty list makes none.
func testLayers(t *testing.T, w *Local, spec string) []image.Layer {
	t.Helper()
	if spec == "" {
		return nil
	}
	files := parseTree(t, spec)
	c := snapshot.NewChanges(nil)
	for _, name := range sortedNames(files) {
		f := files[name]
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if _, ok := files[dir]; !ok {
				files[dir] = treeFile{Entry: snapshot.Entry{Mode: syscall.S_IFDIR | 0o755, ModTime: testTime}}
			}
		}
		_ = f
	}
	for _, name := range sortedNames(files) {
		f := files[name]
		content := snapshot.Content{Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(f.content)), nil }}
		if f.Inode != 0 {
			content.Group = "x"
		}
		if err := c.Put(name, f.Entry, content); err != nil {
			t.Fatal(err)
		}
	}
	layer, err := w.Snapshots.Commit(context.Background(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	return []image.Layer{layer}
}

func sortedNames(files map[string]treeFile) []string {
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// testContext makes a directory of a list of files and opens it.
func testContext(t *testing.T, spec string, ignore ...string) *snapshot.Dir {
	t.Helper()
	root := writeTree(t, spec)
	d, err := snapshot.OpenDir(root, ignore, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func writeTree(t *testing.T, spec string) string {
	t.Helper()
	root := t.TempDir()
	files := parseTree(t, spec)
	first := make(map[uint64]string)
	for _, name := range sortedNames(files) {
		f, p := files[name], filepath.Join(root, name)
		check(t, os.MkdirAll(filepath.Dir(p), 0o755))
		switch {
		case f.Mode&syscall.S_IFMT == syscall.S_IFDIR:
			check(t, os.MkdirAll(p, 0o755))
		case f.Link != "":
			check(t, os.Symlink(f.Link, p))
			continue
		case f.Mode&syscall.S_IFMT == syscall.S_IFIFO:
			check(t, syscall.Mkfifo(p, 0o644))
		case f.Inode != 0 && first[f.Inode] != "":
			check(t, os.Link(first[f.Inode], p))
		default:
			check(t, os.WriteFile(p, []byte(f.content), 0o644))
			if f.Inode != 0 {
				first[f.Inode] = p
			}
		}
		check(t, syscall.Chmod(p, f.Mode&permBits))
		check(t, os.Chtimes(p, testTime, testTime))
	}
	return root
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// testCopy reads "[--flag=value]… source… dest" as the planner would. Sources that begin with "<<" are heredocs.
func testCopy(t *testing.T, line string) *planner.Copy {
	t.Helper()
	op := &planner.Copy{From: planner.Input{Read: -1}}
	fields := strings.Fields(line)
	if fields[0] == "ADD" {
		op.Add = &planner.Add{}
	}
	fields = fields[1:]
	for strings.HasPrefix(fields[0], "--") {
		name, value, _ := strings.Cut(fields[0], "=")
		yes := true
		no := value != "false"
		switch name {
		case "--chown":
			op.Chown = value
		case "--chmod":
			op.Chmod = value
		case "--link":
			op.Link = true
		case "--parents":
			op.Parents = true
		case "--exclude":
			op.Exclude = append(op.Exclude, value)
		case "--from":
			op.From.Read = 0
		case "--checksum":
			op.Add.Checksum = value
		case "--keep-git-dir":
			op.Add.KeepGitDir = &yes
		case "--unpack":
			op.Add.Unpack = &no
		default:
			t.Fatalf("%s: no such flag", name)
		}
		fields = fields[1:]
	}
	for _, s := range fields[:len(fields)-1] {
		var src planner.Source
		switch {
		case strings.HasPrefix(s, "<<"):
			src.File = &planner.File{Name: s[2:], Content: "here\n"}
		case strings.HasSuffix(s, ".git") || strings.Contains(s, ".git#") || strings.Contains(s, ".git?"):
			src.Git = s
		case strings.Contains(s, "://"):
			src.URL = s
		default:
			src.Path = s
		}
		op.Sources = append(op.Sources, src)
	}
	op.Dest = fields[len(fields)-1]
	return op
}

// runCopy describes and does a copy, and returns what comes out of base and its layer.
func runCopy(t *testing.T, w *Local, job Job, op *planner.Copy) (got string, layer image.Layer, key cache.Key) {
	t.Helper()
	ctx := context.Background()
	job.Op = op
	var h cache.Hash
	if err := describe(ctx, w, job, nil, &h); err != nil {
		return "error: " + err.Error(), layer, key
	}
	layer, err := w.Do(ctx, job, io.Discard)
	if err != nil {
		return "error: " + err.Error(), layer, h.Key()
	}
	view, err := w.Snapshots.View(ctx, append(job.On[:len(job.On):len(job.On)], layer))
	check(t, err)
	defer view.Close() //nolint:errcheck
	return printTree(t, view), layer, h.Key()
}

// A copyTest copies from a context (or, with --from, a stage made of the same list) onto a base.
type copyTest struct {
	name, base, from, do, want string
}

func (test copyTest) run(t *testing.T) {
	t.Helper()
	w := testLocal(t)
	job := Job{On: testLayers(t, w, test.base)}
	if strings.Contains(test.do, "--from") {
		job.Reads = [][]image.Layer{testLayers(t, w, test.from)}
	} else {
		w.Contexts[""] = testContext(t, test.from)
	}
	got, _, _ := runCopy(t, w, job, testCopy(t, test.do))
	if strings.HasPrefix(test.want, "error: ") {
		if !strings.Contains(got, strings.TrimPrefix(test.want, "error: ")) {
			t.Errorf("%s\n got %s\nwant %s", test.do, got, test.want)
		}
		return
	}
	if got != test.want {
		t.Errorf("%s\n got %s\nwant %s", test.do, got, test.want)
	}
}

// copyAll is COPY . /
func copyAll() *planner.Copy {
	return &planner.Copy{From: planner.Input{Read: -1}, Sources: []planner.Source{{Path: "."}}, Dest: "/"}
}
