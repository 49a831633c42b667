package main

import (
	"os"
	"testing"
)

func TestExecutorContext(t *testing.T) {
	for _, test := range []struct {
		context, sub, git string
		env               map[string]string
		want              string
	}{
		{context: "dir:///workspace", want: "/workspace"},
		{context: "/workspace/", sub: "a/b", want: "/workspace/a/b"},
		{context: "https://host/ctx.tar.gz", want: "https://host/ctx.tar.gz"},
		{context: "git://github.com/a/b", want: "https://github.com/a/b.git"},
		{context: "git://github.com/a/b.git#refs/heads/main", want: "https://github.com/a/b.git#refs/heads/main"},
		{context: "git://github.com/a/b#refs/heads/main#0123456789", sub: "c", want: "https://github.com/a/b.git#0123456789:c"},
		{context: "git://github.com/a/b", git: "branch=dev,depth=1,single-branch=true", want: "https://github.com/a/b.git#dev"},
		{context: "git://name:secret@host:8443/a/b", want: "https://name:secret@host:8443/a/b.git"},
		{context: "git://host/a/b", env: map[string]string{"GIT_TOKEN": "t"}, want: "https://t:@host/a/b.git"},
		{context: "git://host/a/b", env: map[string]string{"GIT_USERNAME": "n", "GIT_PASSWORD": "p", "GIT_PULL_METHOD": "http"}, want: "http://n:p@host/a/b.git"},
		{context: "git://host/a/b", git: "insecure-skip-tls=true", want: "--git insecure-skip-tls=true: git checks certificates: set GIT_SSL_CAINFO to that of the authority"},
		{context: "git://host/a/b", git: "branches=x", want: `--git branches=x: there is no "branches"`},
		{context: "https://host/ctx.tar.gz", sub: "a", want: "--context-sub-path a: a tar is a context as a whole: unpack it, and name it as dir://"},
		{context: "gs://bucket/ctx.tar.gz", want: "--context gs://bucket/ctx.tar.gz: forge reads nothing from buckets: download the context in a step before, and name it as dir:// or tar://"},
	} {
		for _, name := range []string{"GIT_TOKEN", "GIT_USERNAME", "GIT_PASSWORD", "GIT_PULL_METHOD"} {
			t.Setenv(name, test.env[name])
		}
		c := executorCmd{executorSource: executorSource{Context: test.context, ContextSubPath: test.sub, Git: test.git}}
		got, _, err := c.context(&session{in: os.Stdin})
		if err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("--context %s --context-sub-path %q --git %q = %s, want %s", test.context, test.sub, test.git, got, test.want)
		}
	}
}

func TestExecutorRegistries(t *testing.T) {
	t.Parallel()
	c := executorCmd{executorRegistry: executorRegistry{
		InsecureRegistry: []string{"a:5000"}, SkipTLSVerifyRegistry: []string{"mirror"}, RegistryMirror: []string{"mirror", "other"},
		RegistryMap: "ghcr.io=b;index.docker.io=c",
	}}
	want := `[[registry]]
prefix = "docker.io"
location = "docker.io"
insecure = false
[[registry.mirror]]
location = "mirror"
insecure = true
[[registry.mirror]]
location = "other"
insecure = false
[[registry.mirror]]
location = "c"
insecure = false
[[registry]]
prefix = "ghcr.io"
location = "ghcr.io"
insecure = false
[[registry.mirror]]
location = "b"
insecure = false
[[registry]]
location = "a:5000"
insecure = true
[[registry]]
location = "mirror"
insecure = true
`
	if got := c.registriesConf(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
