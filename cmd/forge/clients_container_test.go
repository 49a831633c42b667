package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestClientDockerContainers uses docker's command for containers, and wants its texts and exit statuses.
func TestClientDockerContainers(t *testing.T) { eachDocker(t, (*kit).dockerContainers) }

func (k *kit) dockerContainers() {
	k.t.Helper()
	again := k.serveAPI().again
	for _, test := range []struct {
		status int
		text   string // of what is printed
		args   string // separated by spaces, or by | if there is one
	}{
		{0, "hi\n", "run --rm base echo hi"},
		{7, "", "run|--rm|base|sh|-c|exit 7"},
		{127, "executable file not found in $PATH", "run --rm base absent"},
		{126, "permission denied", "run --rm base /etc/passwd"},
		{125, "invalid reference format", "run --rm BASE true"},
		{0, "", "run -d --name web --label a=b -e V=w -p 127.0.0.1::80 base sleep 1000"},
		{125, "is already in use by container", "run --name web base true"},
		{0, "web\n", "ps --filter label=a=b --format {{.Names}}"},
		{0, "Up ", "ps --filter status=running --format {{.Status}}"},
		{1, "invalid filter 'odd'", "ps --filter odd=1"},
		{0, "127.0.0.1:", "port web 80"},
		{0, "w\n", "exec|web|sh|-c|echo $V"},
		{4, "", "exec|web|sh|-c|exit 4"},
		{127, "executable file not found in $PATH", "exec web absent"},
		{0, "sleep 1000", "top web"},
		{0, "web 1", "stats|--no-stream|--format|{{.Name}} {{.PIDs}}"},
		{0, "web", "pause web"},
		{1, "is already paused", "pause web"},
		{1, "is paused, unpause the container before exec", "exec web true"},
		{0, "web", "unpause web"},
		{0, "", "exec|web|sh|-c|mkdir /d; echo text >/d/file"},
		{0, "A /d/file", "diff web"},
		{0, "sha256:", "commit|-m|message|-c|CMD [\"x\"]|web|made:1"},
		{0, "[x] V=w", "inspect|-f|{{.Config.Cmd}} {{index .Config.Env 0}}|made:1"},
		{0, "web", "update --memory 64m --restart unless-stopped web"},
		{0, "67108864 unless-stopped", "inspect|-f|{{.HostConfig.Memory}} {{.HostConfig.RestartPolicy.Name}}|web"},
		{0, "", "rename web web2"},
		{1, "No such container: web", "stop web"},
		{1, "container is running: stop the container before removing or force remove", "rm web2"},
		{0, "web2", "kill web2"},
		{1, "is not running", "kill web2"},
		{0, "137\n", "wait web2"},
		{0, "web2", "start web2"},
		{0, "web2", "restart -t 0 web2"},
		{0, "web2", "stop -t 0 web2"},
		{0, "web2", "rm -v web2"},
		{0, "", "create --name made --init --tmpfs /t --cap-drop ALL --health-cmd true base sh -c true"},
		{0, "created CMD-SHELL true", "inspect|-f|{{.State.Status}} {{index .Config.Healthcheck.Test 0}} {{index .Config.Healthcheck.Test 1}}|made"},
		{0, "Deleted Containers:", "container prune -f"},
	} {
		args := strings.Fields(test.args)
		if strings.Contains(test.args, "|") {
			args = strings.Split(test.args, "|")
		}
		a := k.docker("", args...)
		out := k.mustClient(test.status, a)
		if all := out + a.err.String(); !strings.Contains(all, test.text) {
			k.t.Errorf("docker %s: printed %q, which has no %q in it", test.args, all, test.text)
		}
	}
	k.dockerCopies()
	k.dockerSurvives(again)
}

// dockerCopies copies files with docker's command.
func (k *kit) dockerCopies() {
	k.t.Helper()
	k.mustDocker("run", "-d", "--name", "files", "base", "sh", "-c", "mkdir /d; echo text >/d/file; ln -s file /d/link; sleep 1000")
	k.mustClient(0, k.docker("", "exec", "files", "sh", "-c", "until test -L /d/link; do sleep 0.01; done"))
	k.mustDocker("cp", "files:/d", "whole")
	k.mustDocker("cp", "files:/d/.", "contents")
	for _, name := range []string{"whole/link", "contents/link"} {
		if text, err := os.ReadFile(filepath.Join(k.dir, name)); err != nil || string(text) != "text\n" {
			k.t.Errorf("%s is %q, %v", name, text, err)
		}
	}
	k.mustDocker("cp", "whole", "files:/tmp/")
	k.says(k.mustDocker("exec", "files", "cat", "/tmp/whole/link"), "text\n")
	for _, test := range [][3]string{
		{"files:/absent", "x", "Could not find the file /absent in container files"},
		{"whole/file", "files:/absent/x", "Could not find the file /absent in container files"},
		{"whole/file", "files:/absent/", "no such directory"},
		{"whole", "files:/d/file", "cannot copy directory"},
	} {
		a := k.docker("", "cp", test[0], test[1])
		k.mustClient(1, a)
		k.says(a.err.String(), test[2])
	}
}

// dockerSurvives kills the server while a container runs and somebody is attached to it.
func (k *kit) dockerSurvives(again func()) {
	k.t.Helper()
	long := k.docker("", "run", "--rm", "--name", "lives", "base", "sh", "-c", "echo begun; until test -e /end; do sleep 0.01; done; echo over; sleep 2; exit 3") // so that wait and logs have asked by the end
	k.start(long)
	down := k.soon(func() []string {
		if a := k.docker("", "exec", "lives", "true"); a.Run() != nil {
			return []string{a.err.String()}
		}
		return nil
	})
	if len(down) > 0 {
		k.t.Fatalf("the container does not come up: %s", down)
	}
	again()
	k.says(k.mustDocker("ps", "--filter", "name=lives", "--format", "{{.Status}}"), "Up ")
	_ = long.Wait() // its connection is gone
	wait := k.start(k.docker("", "wait", "lives"))
	logs := k.start(k.docker("", "logs", "-f", "lives"))
	k.mustDocker("exec", "-d", "lives", "touch", "/end") // of a process that ends its container the record may be gone before docker asks for the status
	_ = wait.Wait()
	_ = logs.Wait()
	k.says(wait.out.String(), "3\n")
	k.says(logs.out.String(), "begun\nover\n")
	k.says(k.mustDocker("ps", "-a", "--filter", "name=lives", "--format", "{{.Names}}")+".", ".")
}
