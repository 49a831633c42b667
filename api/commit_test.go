package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// shorten leaves out what PATH is, which every image has.
func shorten(env []string) []string {
	for i, v := range env {
		if strings.HasPrefix(v, "PATH=") {
			env[i] = "PATH"
		}
	}
	return env
}

// TestCommitConfig: a configuration in the body of a commit is put over the container's, and the changes over both.
func TestCommitConfig(t *testing.T) {
	h, _ := newServer(t)
	send(t, h.URL, "POST /images/create?fromSrc=-&repo=base&tag=1&changes=CMD+%5B%22old%22%5D tar:etc/motd=hello", http.StatusOK)
	send(t, h.URL, `POST /containers/create?name=cc {"Image":"base:1","Env":["A=1","B=2"],"Labels":{"a":"1","b":"2"},"User":"7","WorkingDir":"/etc",`+
		`"Entrypoint":["/entry"],"Cmd":["own"],"ExposedPorts":{"80/tcp":{}},"Volumes":{"/v":{}},"Healthcheck":{"Test":["CMD","x"],"Retries":3}}`, http.StatusCreated)
	for body, want := range map[string]string{
		`null`: "[own] [/entry] [A=1 B=2 PATH] map[a:1 b:2] 7 /etc map[80/tcp:{}] map[/v:{}] [CMD x] 3 []",
		`{}`:   "[own] [/entry] [A=1 B=2 PATH] map[a:1 b:2] 7 /etc map[80/tcp:{}] map[/v:{}] [CMD x] 3 []",
		`{"Cmd":["new"],"Env":["B=3","C=4"],"Labels":{"b":"3"},"User":"8","WorkingDir":"/x","ExposedPorts":{"81/udp":{}},"Volumes":{"/w":{}},` +
			`"Healthcheck":{"Test":["NONE"]},"OnBuild":["RUN x"],"Hostname":"left-out"}`: "[new] [/entry] [B=3 C=4 A=1 PATH] map[a:1 b:3] 8 /x map[80/tcp:{} 81/udp:{}] map[/v:{} /w:{}] [NONE] 3 [RUN x]",
		`{"Entrypoint":["/e"]}`: "[] [/e] [A=1 B=2 PATH] map[a:1 b:2] 7 /etc map[80/tcp:{}] map[/v:{}] [CMD x] 3 []",
		`{"Entrypoint":[]}`:     "[own] [] [A=1 B=2 PATH] map[a:1 b:2] 7 /etc map[80/tcp:{}] map[/v:{}] [CMD x] 3 []",
	} {
		send(t, h.URL, "POST /commit?container=cc&repo=done&tag=1 "+body, http.StatusCreated)
		c := imageOf(t, h.URL, "done:1").Config
		shorten(c.Env)
		got := fmt.Sprint(c.Cmd, " ", c.Entrypoint, " ", c.Env, " ", c.Labels, " ", c.User, " ", c.WorkingDir, " ", c.ExposedPorts, " ", c.Volumes, " ", c.Healthcheck.Test, " ",
			c.Healthcheck.Retries, " ", c.OnBuild)
		if got != want {
			t.Errorf("%s: %s\nwant %s", body, got, want)
		}
	}
	send(t, h.URL, `POST /commit?container=cc&repo=done&tag=2&changes=ENV+A=9 {"Env":["A=5"]}`, http.StatusCreated)
	if got := shorten(imageOf(t, h.URL, "done:2").Config.Env); fmt.Sprint(got) != "[A=9 B=2 PATH]" {
		t.Errorf("changes give %q", got)
	}
	for _, body := range []string{`{"Env":["A"]}`, `{"ExposedPorts":{"none":{}}}`, `{"Cmd":7}`} {
		var e struct{ Message string }
		if err := json.Unmarshal(send(t, h.URL, "POST /commit?container=cc "+body, http.StatusBadRequest), &e); err != nil || e.Message == "" {
			t.Errorf("%s: %v", body, err)
		}
	}
}
