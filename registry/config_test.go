package registry

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/forge-build/forge/image"
)

// files makes a directory of files and returns it.
func files(t *testing.T, content map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range content {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func env(vars map[string]string) func(string) string {
	return func(name string) string { return vars[name] }
}

func confOf(t *testing.T, text string) (*config, error) {
	t.Helper()
	dir := files(t, map[string]string{"registries.conf": text})
	return readConfig(env(map[string]string{
		"CONTAINERS_REGISTRIES_CONF": filepath.Join(dir, "registries.conf"), "CONTAINERS_REGISTRIES_CONF_DIR": filepath.Join(dir, "d"),
	}))
}

func TestPlaces(t *testing.T) {
	conf, err := confOf(t, `
unqualified-search-registries = ["quay.io", "docker.io"]
[[registry]]
prefix = "docker.io"
location = "mirror.corp/hub"
[[registry.mirror]]
location = "10.0.0.1:5000/m"
insecure = true
[[registry.mirror]]
location = "near.corp"
pull-from-mirror = "digest-only"
[[registry]]
prefix = "docker.io/library/alpine"
location = "quay.io/alpine/alpine"
[[registry]]
location = "plain.corp:8080"
insecure = true
[[registry]]
prefix = "*.evil.com"
blocked = true
[[registry]]
prefix = "*.example.com"
location = "cache.corp/example"
[[registry]]
prefix = "registry.corp"
blocked = true
`)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ ref, want string }{
		{"busybox", "10.0.0.1:5000/m/library/busybox insecure mirror,near.corp/library/busybox mirror digest-only,mirror.corp/hub/library/busybox"},
		{"alpine:3", "quay.io/alpine/alpine"},
		{"library/alpine2", "10.0.0.1:5000/m/library/alpine2 insecure mirror,near.corp/library/alpine2 mirror digest-only,mirror.corp/hub/library/alpine2"},
		{"plain.corp:8080/x", "plain.corp:8080/x insecure"},
		{"plain.corp/x", "plain.corp/x"},
		{"a.b.evil.com/x", "blocked"},
		{"evil.com/x", "evil.com/x"},
		{"a.example.com/x/y", "cache.corp/example/x/y"},
		{"registry.corp/x", "blocked"},
		{"registry.corp:5000/x", "registry.corp:5000/x"},
	} {
		ref, err := image.ParseReference(test.ref)
		if err != nil {
			t.Fatal(err)
		}
		places, err := conf.places(ref)
		var got []string
		for _, p := range places {
			s := p.domain + "/" + p.path
			if p.insecure {
				s += " insecure"
			}
			if p.mirror {
				s += " mirror"
			}
			if p.use != "" {
				s += " " + p.use
			}
			got = append(got, s)
		}
		if err != nil && strings.Contains(err.Error(), "blocks") {
			got = []string{"blocked"}
		}
		if g := strings.Join(got, ","); g != test.want {
			t.Errorf("places(%s) = %s, %v; want %s", test.ref, g, err, test.want)
		}
	}
	refs, err := conf.candidates("app:1")
	if err != nil || len(refs) != 2 || refs[0].String() != "quay.io/app:1" || refs[1].String() != "docker.io/library/app:1" {
		t.Errorf("candidates = %v, %v", refs, err)
	}
	if refs, err := conf.candidates("localhost/app"); err != nil || len(refs) != 1 {
		t.Errorf("candidates of a full name = %v, %v", refs, err)
	}
}

func TestRegistriesConfErrors(t *testing.T) {
	for text, want := range map[string]string{
		"[registries.search]\nregistries = ['x']\n[[registry]]\nlocation = 3":                           "version 1",
		"[[registry]]\nlocation = 'https://x'":                                                          "no location",
		"[[registry]]\nlocation = 'x/'":                                                                 "no location",
		"[[registry]]\nlocation = 'x'\n[[registry.mirror]]\nlocation = ''":                              "no location",
		"[[registry]]\nlocation = 'x'\n[[registry.mirror]]\nlocation = 'y'\npull-from-mirror = 'never'": "pull-from-mirror",
		"x = ": "registries.conf",
	} {
		if _, err := confOf(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", text, err, want)
		}
	}
}

// aliceAt is an auths table.
const auths = `{"auths": {
	"https://index.docker.io/v1/": {"auth": "aHViOmE6Yg=="},
	"quay.io/team": {"auth": "dGVhbTpw"},
	"https://quay.io/v2/": {"auth": "cXVheTpw"},
	"ghcr.io": {"username": "u", "password": "p"},
	"idt.io": {"identitytoken": "tok"},
	"empty.io": {}
}}`

func TestCredential(t *testing.T) {
	dir := files(t, map[string]string{
		"docker/config.json":       auths,
		"run/containers/auth.json": `{"auths": {"empty.io": {"auth": "cG9kOnA="}, "ghcr.io": {"auth": "cG9kOnA="}}}`,
		"bin/docker-credential-good": `#!/bin/sh
case "$1" in get) read server; case "$server" in
https://index.docker.io/v1/) echo '{"Username":"hubhelper","Secret":"s"}';;
tok.io) echo '{"Username":"<token>","Secret":"t"}';;
*) echo "credentials not found in native keychain"; exit 1;; esac;; esac`,
		"bin/docker-credential-bad":  "#!/bin/sh\necho 'keychain is locked'; exit 1",
		"bin/docker-credential-junk": "#!/bin/sh\necho junk",
	})
	t.Setenv("PATH", filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
	base := map[string]string{"DOCKER_CONFIG": filepath.Join(dir, "docker"), "XDG_RUNTIME_DIR": filepath.Join(dir, "run")}
	for _, test := range []struct{ auth, registry, repo, want string }{
		{"", "docker.io", "library/x", "hub/a:b//"},
		{"", "quay.io", "team/app", "team/p//"},
		{"", "quay.io", "other/app", "quay/p//"},
		{"", "ghcr.io", "", "u/p//"},
		{"", "idt.io", "", "//tok/"},
		{"", "empty.io", "", "pod/p//"},
		{"", "nowhere.io", "", "///"},
		{`{"auths":{"ghcr.io":{"auth":"ZW52OnA="}}}`, "ghcr.io", "", "env/p//"},
		{`{"credHelpers":{"docker.io":"good"}}`, "docker.io", "library/x", "hubhelper/s//"},
		{`{"credHelpers":{"https://index.docker.io/v1/":"good"}}`, "docker.io", "library/x", "hubhelper/s//"},
		{`{"credHelpers":{"tok.io":"good"}}`, "tok.io", "", "//t/"},
		{`{"credsStore":"good"}`, "docker.io", "x", "hubhelper/s//"},
		{`{"credsStore":"good"}`, "ghcr.io", "", "u/p//"}, // not in the store: the next file
		{`{"credsStore":"bad"}`, "ghcr.io", "", "docker-credential-bad get: keychain is locked"},
		{`{"credsStore":"junk"}`, "ghcr.io", "", "docker-credential-junk: its answer is not JSON"},
		{`{"credsStore":"none"}`, "ghcr.io", "", "docker-credential-none: is not installed"},
		{`{"credsStore":"../x"}`, "ghcr.io", "", "is not a name"},
		{`{"auths":{"a.io":{"auth":"%%"}}}`, "a.io", "", `DOCKER_AUTH_CONFIG: entry "a.io": auth is not base64`},
		{`{"auths":"c2VjcmV0"`, "a.io", "", "DOCKER_AUTH_CONFIG: is not a JSON file of credentials"},
	} {
		vars := map[string]string{"DOCKER_AUTH_CONFIG": test.auth}
		for k, v := range base {
			vars[k] = v
		}
		c, err := readConfig(env(vars))
		if err != nil {
			t.Fatal(err)
		}
		cred, err := c.credential(context.Background(), test.registry, test.repo)
		got := strings.Join([]string{cred.Username, cred.Password, cred.IdentityToken, cred.RegistryToken}, "/")
		if err != nil {
			got = err.Error()
		}
		if got != test.want && (err == nil || !strings.Contains(got, test.want)) {
			t.Errorf("%s %s/%s: %s, want %s", test.auth, test.registry, test.repo, got, test.want)
		}
	}
}

// TestHelperThatHangs holds that a helper ends with the command that asked it, and what it has started, too.
func TestHelperThatHangs(t *testing.T) {
	dir := files(t, map[string]string{"docker-credential-slow": "#!/bin/sh\nsleep 10000 & echo $! > \"$CHILD\".new; mv \"$CHILD\".new \"$CHILD\"; wait"})
	child := filepath.Join(dir, "child")
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("CHILD", child)
	ctx, cancel := context.WithCancel(t.Context())
	answered := make(chan error, 1)
	go func() {
		_, err := helperGet(ctx, "slow", "x")
		answered <- err
	}()
	until(t, func() bool {
		_, err := os.Stat(child)
		return err == nil
	})
	cancel()
	if err := <-answered; err == nil {
		t.Error("a helper that hangs gave an answer")
	}
	pid, err := os.ReadFile(child)
	if err != nil {
		t.Fatal(err)
	}
	until(t, func() bool { // it may be a zombie until somebody takes it in
		stat, err := os.ReadFile("/proc/" + strings.TrimSpace(string(pid)) + "/stat")
		return err != nil || strings.Contains(string(stat), ") Z ")
	})
}

// until waits for something that is about to be true.
func until(t *testing.T, ok func() bool) {
	t.Helper()
	for range 3000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("it does not become true")
}

func TestKeepAndLogout(t *testing.T) {
	dir := files(t, map[string]string{
		"real/config.json": `{"psFormat": "table", "auths": {"a.io": {"auth": "eDp5"}}, "credHelpers": {"h.io": "log"}, "plugins": {"x": {"y": 1}}}`,
		"bin/docker-credential-log": `#!/bin/sh
case "$1" in store) cat > "$LOG";; erase) cat >> "$LOG";; get) echo '{"Username":"u","Secret":"s"}';; esac`,
	})
	t.Setenv("PATH", filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
	t.Setenv("LOG", filepath.Join(dir, "log"))
	if err := os.MkdirAll(filepath.Join(dir, "link"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../real/config.json", filepath.Join(dir, "link/config.json")); err != nil {
		t.Fatal(err)
	}
	c, err := readConfig(env(map[string]string{"DOCKER_CONFIG": filepath.Join(dir, "link")}))
	if err != nil {
		t.Fatal(err)
	}
	for _, domain := range []string{"docker.io", "b.io:5000", "h.io"} {
		if _, err := c.keep(t.Context(), domain, Credential{Username: "u", Password: "p:q"}); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "real/config.json")
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", st.Mode(), err)
	}
	if l, err := os.Lstat(filepath.Join(dir, "link/config.json")); err != nil || l.Mode().IsRegular() {
		t.Errorf("the link was replaced: %v, %v", l.Mode(), err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		PsFormat string
		Plugins  map[string]map[string]int
		Auths    map[string]authEntry
	}
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	var keys []string
	for k := range got.Auths {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	if got.PsFormat != "table" || got.Plugins["x"]["y"] != 1 || strings.Join(keys, " ") != "a.io b.io:5000 h.io https://index.docker.io/v1/" {
		t.Errorf("config.json became %s", raw)
	}
	if got.Auths["b.io:5000"].Auth != "dTpwOnE=" || got.Auths["h.io"] != (authEntry{}) {
		t.Errorf("entries: %+v", got.Auths)
	}
	if log, err := os.ReadFile(filepath.Join(dir, "log")); err != nil || string(log) != `{"ServerURL":"h.io","Username":"u","Secret":"p:q"}` {
		t.Errorf("helper was told %s, %v", log, err)
	}
	client := NewClient(Options{config: c})
	for domain, want := range map[string]bool{"docker.io": true, "b.io:5000": true, "h.io": true, "none.io": false} {
		if had, err := client.Logout(t.Context(), domain); err != nil || had != want {
			t.Errorf("Logout(%s) = %t, %v; want %t", domain, had, err, want)
		}
	}
}

func TestParseChallenges(t *testing.T) {
	for in, want := range map[string]string{
		`Bearer realm="https://a/b",service="x y",scope="repository:a:pull,push"`: "bearer map[realm:https://a/b scope:repository:a:pull,push service:x y]",
		`Basic realm="a \"b\""`:           `basic map[realm:a "b"]`,
		`Basic realm=a, Bearer realm="b"`: "basic map[realm:a] bearer map[realm:b]",
		`Negotiate`:                       "negotiate map[]",
		`Negotiate, Basic realm="x"`:      "negotiate map[] basic map[realm:x]",
		`BEARER REALM = "x" , service= y`: "bearer map[realm:x service:y]",
		`Bearer realm="unfinished`:        "bearer map[realm:unfinished]",
		``:                                "",
		`,,,`:                             "",
		`=x`:                              "",
	} {
		var got []string
		for _, c := range parseChallenges([]string{in}) {
			got = append(got, c.scheme+" "+mapText(c.params))
		}
		if g := strings.Join(got, " "); g != want {
			t.Errorf("parseChallenges(%s) = %s, want %s", in, g, want)
		}
	}
}

func mapText(m map[string]string) string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for i, k := range keys {
		keys[i] = k + ":" + m[k]
	}
	return "map[" + strings.Join(keys, " ") + "]"
}

func FuzzParseChallenges(f *testing.F) {
	f.Add(`Bearer realm="https://a/b",service="x y"`)
	f.Fuzz(func(t *testing.T, s string) {
		for _, c := range parseChallenges([]string{s}) {
			if c.scheme == "" || strings.ContainsAny(c.scheme, " \t\r\n,\"") {
				t.Errorf("scheme %q of %q", c.scheme, s)
			}
		}
	})
}
