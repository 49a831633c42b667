package main

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"hash/fnv"
	"io/fs"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
)

var updateCorpus = flag.Bool("update", false, "rewrite what the cases of testdata/corpus want")

// TestCorpus builds the cases of testdata/corpus, whose README says how they are written, in one store. Where
// FORGE_CORPUS_BUILDER names a program, that builds instead of forge: "PROGRAM image NAME ARCHIVE" tells it of an image
// that cases build upon, "PROGRAM build …" has docker's flags. Where FORGE_TEST_REMOTE is the address of a server of the Remote Execution API, that does
// the steps.
func TestCorpus(t *testing.T) {
	for _, need := range []string{"root", "busybox", "git"} {
		if ok, _ := condition(t, need); !ok {
			t.Skip("needs ", need)
		}
	}
	names, err := filepath.Glob("../../testdata/corpus/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatal("no cases", err)
	}
	c := newCorpus(t)
	for i, name := range names {
		if testing.Short() && i%40 > 0 {
			continue
		}
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			t.Parallel()
			c.test(t, name)
		})
	}
}

// A corpus is what all cases share.
type corpus struct {
	dir       string // of the cases' own directories, one each
	store     string
	builder   string // "" is forge
	isolation string // FORGE_ISOLATION
	base      tree   // what is not listed
	url       string // of dir, and of the repositories in it below /git
}

func newCorpus(t *testing.T) *corpus {
	c := &corpus{dir: t.TempDir(), builder: os.Getenv("FORGE_CORPUS_BUILDER"), isolation: os.Getenv("FORGE_ISOLATION")}
	c.store = filepath.Join(c.dir, "store")
	git, err := exec.LookPath("git")
	check(t, err)
	mux := http.NewServeMux()
	mux.Handle("/", http.FileServer(http.Dir(c.dir)))
	mux.Handle("/git/", &cgi.Handler{
		Path: git, Args: []string{"http-backend"}, Root: "/git", Stderr: t.Output(),
		Env: []string{"GIT_PROJECT_ROOT=" + c.dir, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_GLOBAL=/dev/null"},
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	c.url = server.URL

	content, err := busyboxTar()
	check(t, err)
	c.base, err = readTree(bytes.NewReader(content))
	check(t, err)
	file := filepath.Join(c.dir, "base.tar")
	check(t, os.WriteFile(file, content, 0o600))
	c.forge(t, c.dir, "import", "--change", "ENV PATH="+basePath, "--change", `CMD ["sh"]`, file, "base")
	c.published(t, "base")
	return c
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// forge runs forge, which has to succeed.
func (c *corpus) forge(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.Command("forge", args...)
	cmd.Dir, cmd.Env = dir, c.environment("HOME="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("forge %s: %v\n%s", args, err, out)
	}
}

// published tells another builder of an image of ours.
func (c *corpus) published(t *testing.T, name string) {
	if c.builder == "" {
		return
	}
	file := filepath.Join(c.dir, strings.ReplaceAll(name, "/", "_")+".oci")
	c.forge(t, c.dir, "save", "--format", "oci", "-o", file, name)
	if out, err := exec.Command(c.builder, "image", name, file).CombinedOutput(); err != nil {
		t.Fatalf("%s image: %v\n%s", c.builder, err, out)
	}
}

func (c *corpus) environment(more ...string) []string {
	if address := os.Getenv("FORGE_TEST_REMOTE"); address != "" { // all that can be is done there
		more = append(more, "FORGE_REMOTE="+address, "FORGE_REMOTE_POLICY="+cmp.Or(os.Getenv("FORGE_TEST_REMOTE_POLICY"), "only"), "FORGE_REMOTE_NETWORK=")
	}
	return append([]string{
		"PATH=" + os.Getenv("PATH"), "FORGE_ROOT=" + c.store, "FORGE_SNAPSHOTTER=" + os.Getenv("FORGE_SNAPSHOTTER"), "FORGE_ISOLATION=" + c.isolation,
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@a", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@a",
		"GIT_AUTHOR_DATE=@1000000000 +0000", "GIT_COMMITTER_DATE=@1000000000 +0000",
	}, more...)
}

// A testCase is a case as it is written, and where it is done.
type testCase struct {
	*corpus
	archive *txtar.Archive
	work    string            // its directory
	context string            // work/context: where its commands run, and the context
	mtime   time.Time         // of its files; it differs from case to case, for BuildKit compares no content
	files   map[string][]byte // of the archive, by name
}

func (c *corpus) test(t *testing.T, name string) {
	archive, err := txtar.ParseFile(name)
	check(t, err)
	title := strings.TrimSuffix(filepath.Base(name), ".txtar")
	h := fnv.New32a()
	_, _ = h.Write([]byte(title))
	k := &testCase{
		corpus: c, archive: archive, work: filepath.Join(c.dir, title), files: map[string][]byte{},
		mtime: time.Unix(1e9+int64(h.Sum32()%1e7), 0),
	}
	k.context = filepath.Join(k.work, "context")
	for _, need := range strings.Fields(k.header("needs")) {
		if ok, err := condition(t, need); !ok || err != nil {
			t.Skip("needs ", need, err)
		}
	}
	if os.Getenv("FORGE_TEST_REMOTE") != "" && title == "arg_proxy" {
		t.Skip("proxies do not go to other machines")
	}
	if os.Getenv("FORGE_TEST_REMOTE_POLICY") == "auto" && title == "run_capabilities" {
		t.Skip("a worker of an ordinary user cannot make devices, and the command does without")
	}
	if c.builder != "" && !strings.HasPrefix(k.header("buildkit"), "v") {
		t.Skip("buildkit: ", k.header("buildkit"))
	}
	k.write(t)
	k.images(t)
	k.script(t, "setup.sh")
	got := k.build(t)
	if _, ok := k.files["again.sh"]; ok {
		k.script(t, "again.sh")
		second := k.build(t)
		second["want.again"] = difference(got["want.files"], second["want.files"])
		got = second
	}
	if *updateCorpus && c.builder == "" {
		k.update(t, name, got)
		return
	}
	k.compare(t, got)
	check(t, os.RemoveAll(k.work))
}

// header is what a line of the case's comment says: "# key: value".
func (k *testCase) header(key string) string {
	for line := range strings.Lines(string(k.archive.Comment)) {
		if value, ok := strings.CutPrefix(line, "# "+key+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// write makes the context.
func (k *testCase) write(t *testing.T) {
	check(t, os.MkdirAll(k.context, 0o755))
	for _, f := range k.archive.Files {
		k.files[f.Name] = f.Data
		if f.Name == "setup.sh" || f.Name == "again.sh" || strings.HasPrefix(f.Name, "want.") || strings.HasPrefix(f.Name, "image/") {
			continue
		}
		path := filepath.Join(k.context, f.Name)
		check(t, os.MkdirAll(filepath.Dir(path), 0o755))
		check(t, os.WriteFile(path, f.Data, 0o644))
	}
	check(t, filepath.WalkDir(k.context, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chtimes(path, k.mtime, k.mtime)
	}))
}

// images makes the images that the case builds upon.
func (k *testCase) images(t *testing.T) {
	for _, f := range k.archive.Files {
		image, ok := strings.CutPrefix(f.Name, "image/")
		if !ok {
			continue
		}
		first, _, _ := strings.Cut(string(f.Data), "\n")
		args, _ := strings.CutPrefix(first, "# args: ")
		dir := filepath.Join(k.work, "image", image)
		check(t, os.MkdirAll(dir, 0o755))
		check(t, os.WriteFile(filepath.Join(dir, "Dockerfile"), f.Data, 0o644))
		command := append([]string{"build", "-t", image}, k.words(strings.TrimPrefix(args, first))...)
		k.forge(t, dir, append(command, ".")...)
		k.published(t, image)
	}
}

func (k *testCase) script(t *testing.T, name string) {
	text, ok := k.files[name]
	if !ok {
		return
	}
	cmd := exec.Command("sh", "-euc", "umask 022\n"+string(text))
	cmd.Dir = k.context
	cmd.Env = k.environment("HOME="+k.work, "T="+strconv.FormatInt(k.mtime.Unix(), 10), "URL="+k.address(""))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// address is where the case's context is served: as files, or below "/git" as repositories.
func (k *testCase) address(below string) string {
	return k.url + below + "/" + filepath.Base(k.work) + "/context"
}

// words splits a line at blanks; quotes as of a shell, and $URL and $GIT, are known.
func (k *testCase) words(line string) []string {
	line = strings.NewReplacer("$URL", k.address(""), "$GIT", k.address("/git")).Replace(line)
	var words []string
	var word strings.Builder
	var quote rune
	inside := false
	for _, r := range line + " " {
		switch {
		case quote == 0 && (r == '\'' || r == '"'):
			quote, inside = r, true
		case r == quote:
			quote = 0
		case quote == 0 && r == ' ':
			if inside {
				words = append(words, word.String())
			}
			word.Reset()
			inside = false
		default:
			word.WriteRune(r)
			inside = true
		}
	}
	return words
}

// build builds and returns the sections that tell what came of it.
func (k *testCase) build(t *testing.T) map[string]string {
	args := append([]string{"build", "--progress=plain"}, k.words(k.header("args"))...)
	files, layout := filepath.Join(k.work, "out.tar"), filepath.Join(k.work, "out.oci")
	asks := slices.ContainsFunc(args, func(s string) bool { return strings.HasPrefix(s, "--check") || strings.HasPrefix(s, "--call") })
	if k.files["again.sh"] == nil {
		args = append(args, "--no-cache") // nothing of another case
	}
	if !asks {
		args = append(args, "-o", "type=oci,dest="+layout)
		if !strings.Contains(k.header("args"), ",") || !strings.Contains(k.header("args"), "--platform") {
			args = append(args, "-o", "type=tar,dest="+files)
		}
	}
	program, context := "forge", k.header("context")
	if k.builder != "" {
		program = k.builder
	}
	if context == "" {
		context = "."
	}
	cmd := exec.Command(program, append(args, k.words(context)...)...)
	cmd.Dir = k.context
	cmd.Env = k.environment(append(k.words(k.header("env")), "HOME="+k.work)...)
	if stdin := k.header("stdin"); stdin != "" {
		f, err := os.Open(filepath.Join(k.context, stdin))
		check(t, err)
		defer f.Close() //nolint:errcheck // read only
		cmd.Stdin = f
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	got := map[string]string{}
	if err := cmd.Run(); err != nil {
		got["want.error"] = k.message(stderr.String())
		if k.builder != "" {
			t.Logf("%s", stderr.String())
		}
	}
	if asks {
		got["want.stdout"] = k.normal(stdout.String())
	}
	if asks || got["want.error"] != "" {
		return got
	}
	got["want.config"] = k.normal(readImages(t, layout))
	if f, err := os.Open(files); err == nil {
		defer f.Close() //nolint:errcheck // read only
		result, err := readTree(f)
		check(t, err)
		got["want.files"] = result.list(k.base, k.mtime)
	}
	return got
}

// message is the last thing that forge has said: what was wrong, without the lines of the build file and what to do next.
func (k *testCase) message(stderr string) string {
	text := stderr[max(strings.LastIndex("\n"+stderr, "\nforge: "), 0):]
	if at := strings.Index(text, "\n--------------------\n"); at >= 0 {
		text = text[:strings.LastIndex(text[:at], "\n")+1]
	}
	return k.normal(text)
}

// normal hides what differs from run to run.
func (k *testCase) normal(s string) string {
	return strings.NewReplacer(
		k.address("/git"), "$GIT", k.address(""), "$URL", k.context, "$CONTEXT", strings.TrimPrefix(k.url, "http://"), "$HOST",
		"remote execution: the worker could not do the job: ", "", "; --remote-policy auto does it here", "", // with FORGE_TEST_REMOTE
	).Replace(s)
}

func (k *testCase) update(t *testing.T, name string, got map[string]string) {
	k.archive.Files = slices.DeleteFunc(k.archive.Files, func(f txtar.File) bool { return strings.HasPrefix(f.Name, "want.") })
	for _, section := range []string{"want.error", "want.stdout", "want.files", "want.again", "want.config"} {
		if text, ok := got[section]; ok {
			k.archive.Files = append(k.archive.Files, txtar.File{Name: section, Data: []byte(text)})
		}
	}
	check(t, os.WriteFile(name, txtar.Format(k.archive), 0o644))
}

func (k *testCase) compare(t *testing.T, got map[string]string) {
	for _, section := range []string{"want.error", "want.stdout", "want.files", "want.again", "want.config"} {
		want, wanted := k.files[section]
		text, ok := got[section]
		switch {
		case wanted != ok:
			t.Errorf("%s: in the case: %t, in the result: %t\n%s", section, wanted, ok, text)
		case k.builder != "" && section == "want.error": // in its own words
		case k.builder != "" && lenient(string(want), text) == strings.TrimRight(text, "\n"):
		case strings.TrimRight(text, "\n") != strings.TrimRight(string(want), "\n"):
			t.Errorf("%s:\n%s", section, difference(string(want), text))
		}
	}
}

// lenient is what a case wants without the times of directories where another builder has the time of the build:
// forge makes layers that are the same every time.
func lenient(want, got string) string {
	lines := strings.Split(strings.TrimRight(want, "\n"), "\n")
	for i, line := range lines {
		before, after, ok := strings.Cut(line, " @")
		if ok && strings.Contains(line, " dir ") && slices.Contains(strings.Split(got, "\n"), before) {
			_, after, _ = strings.Cut(after, " ")
			lines[i] = strings.TrimSpace(before + " " + after)
		}
	}
	return strings.Join(lines, "\n")
}

// difference lists the lines that are only in one of two texts, behind "-" and "+".
func difference(a, b string) string {
	old, now := strings.Split(a, "\n"), strings.Split(b, "\n")
	var d strings.Builder
	for _, line := range old {
		if !slices.Contains(now, line) {
			fmt.Fprintln(&d, "-", line)
		}
	}
	for _, line := range now {
		if !slices.Contains(old, line) {
			fmt.Fprintln(&d, "+", line)
		}
	}
	return d.String()
}
