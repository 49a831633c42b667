package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A typist sits at a terminal at which a command runs.
type typist struct {
	t    *testing.T
	a    *attempt
	pty  *os.File
	seen bytes.Buffer
}

// terminal starts a command at a terminal of its own.
func (k *kit) terminal(args ...string) *typist {
	k.t.Helper()
	pty, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() { _ = pty.Close() })
	var n int
	conn, err := pty.SyscallConn()
	if err != nil {
		k.t.Fatal(err)
	}
	_ = conn.Control(func(fd uintptr) {
		n, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		err = errors.Join(err, unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0),
			unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 200}))
	})
	if err != nil {
		k.t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		k.t.Fatal(err)
	}
	defer tty.Close()
	a := k.command(args...)
	a.Stdin, a.Stdout, a.Stderr = tty, tty, tty
	a.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	w := &typist{t: k.t, a: k.start(a), pty: pty}
	return w
}

// expect waits until the terminal shows a text, and then forgets what it has shown up to there.
func (w *typist) expect(text string) {
	w.t.Helper()
	buf := make([]byte, 4096)
	for {
		if i := bytes.Index(w.seen.Bytes(), []byte(text)); i >= 0 {
			w.seen.Next(i + len(text))
			return
		}
		_ = w.pty.SetReadDeadline(time.Now().Add(time.Minute))
		n, err := w.pty.Read(buf)
		w.seen.Write(buf[:n])
		if err != nil {
			w.t.Fatalf("%q did not come: %v; the terminal shows\n%s", text, err, w.seen.String())
		}
	}
}

// enter types a line.
func (w *typist) enter(line string) {
	w.t.Helper()
	if _, err := w.pty.WriteString(line + "\n"); err != nil {
		w.t.Fatal(err)
	}
}

// says types a command into a shell, and expects what it prints.
func (w *typist) says(command, want string) {
	w.t.Helper()
	w.expect("# ")
	w.enter(command + "; echo : done")
	w.expect("\r\n" + want + "\r\n: done\r\n")
}

// ends waits for the end of the command, whose exit status is to be want.
func (w *typist) ends(want int) {
	w.t.Helper()
	buf := make([]byte, 4096)
	for {
		_ = w.pty.SetReadDeadline(time.Now().Add(time.Minute))
		n, err := w.pty.Read(buf)
		w.seen.Write(buf[:n])
		if err != nil { // nobody has the other end any more
			break
		}
	}
	_ = w.a.Wait()
	if got := w.a.status(); got != want {
		w.t.Fatalf("exit status %d, want %d\n%s", got, want, w.seen.String())
	}
}

// TestBuildShell stands where a step has failed, finds there what the step had and what it has left, and goes on with another build file. Nothing
// of what was done there is in the image.
func TestBuildShell(t *testing.T) {
	k := newKit(t)
	k.base()
	k.write("token", "hush\n")
	context := k.context("c", `
FROM base
WORKDIR /src
ENV GREETING=hello
COPY data .
RUN --mount=type=cache,target=/cache --mount=type=tmpfs,target=/memory --mount=type=secret,id=token --mount=type=bind,target=/all,rw \
    echo made >made && echo cached >/cache/f && echo kept >/memory/f && echo bound >/all/f && false
RUN echo after >/after
`)
	k.write("c/data", "data\n")
	w := k.terminal("build", "--shell", "--secret", "id=token,src="+k.dir+"/token", "-t", "app", context)
	w.expect("exit code 1")
	w.says("pwd", "/src")
	w.says("cat data made /cache/f /memory/f /all/f /run/secrets/token", "data\r\nmade\r\ncached\r\nkept\r\nbound\r\nhush")
	w.says("echo $GREETING $(hostname) $(stty size)", "hello buildkitsandbox 24 200")
	w.says("touch /evil && echo evil >made && echo x >/memory/f && ls /evil", "/evil")
	w.expect("# ")
	w.enter("exit")
	w.expect(" > ")
	w.enter("s")
	w.says("cat made /memory/f", "evil\r\nx")
	w.expect("# ")
	w.enter("exit")
	w.expect(" > ")
	w.enter("r") // on what it was given, and not on what was done in the shell
	w.expect("exit code 1")
	w.says("cat made; ls /evil", "made\r\nls: /evil: No such file or directory")
	w.expect("# ")
	w.enter("exit")
	w.expect(" > ")
	text, err := os.ReadFile(context + "/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	k.write("c/Dockerfile", strings.Replace(string(text), "&& false", "", 1))
	w.enter("e")
	w.expect("press Enter > ")
	w.enter("")
	w.ends(0)
	got := k.must("run", "--rm", "--network", "none", "app", "sh", "-c", "cat made; ls -d /evil /.forge /after 2>&1; true")
	if want := "made\nls: /evil: No such file or directory\nls: /.forge: No such file or directory\n/after\n"; got != want {
		t.Errorf("the image has\n%swant\n%s", got, want)
	}
	k.spotless("after a build with shells")
}

// TestBuildShellWithout stands in an image that has no shell and a user who is not root, who gets that of this machine's busybox.
func TestBuildShellWithout(t *testing.T) {
	k := newKit(t)
	k.base()
	context := k.context("c", `
FROM scratch
COPY --from=base /bin/busybox /app
USER 7:8
RUN ["/app", "false"]
`)
	w := k.terminal("build", "--shell", context)
	w.expect("$ ")
	w.enter("id -u; id -g; echo $(ls / | wc -w) entries")
	w.expect("\r\n7\r\n8\r\n5 entries\r\n")
	w.expect("$ ")
	w.enter("exit")
	w.expect(" > ")
	w.enter("q")
	w.ends(1)
	k.spotless("after a shell of this machine's")
}

// TestBuildShellAt stops at steps that do not fail, and goes on.
func TestBuildShellAt(t *testing.T) {
	k := newKit(t)
	k.base()
	context := k.context("c", `
FROM base AS tools
RUN echo tool >/tool
FROM base
COPY --from=tools /tool /
ENV A=b
RUN --mount=from=tools,source=/tool,target=/mounted echo $A >/made
RUN echo more >/more
`)
	for _, test := range []struct{ at, command, want string }{
		{"tools", "cat /tool", "tool"},
		{"before:2", "ls /tool", "ls: /tool: No such file or directory"},
		{"2", "ls /tool", "ls: /tool: No such file or directory"},
		{":7", "cat /mounted; ls /made; echo $A", "tool\r\nls: /made: No such file or directory\r\nb"},
		{"after:Dockerfile:7", "cat /mounted /made; ls /more", "tool\r\nb\r\nls: /more: No such file or directory"},
		{"STAGE-1", "cat /more", "more"},
	} {
		w := k.terminal("build", "--shell-at", test.at, "-t", "app", context)
		w.says(test.command, test.want)
		w.expect("# ")
		w.enter("touch /evil; exit")
		w.expect(" > ")
		w.enter("c")
		w.ends(0)
	}
	if got := k.must("run", "--rm", "--network", "none", "app", "sh", "-c", "ls -d /evil 2>&1; cat /more"); got != "ls: /evil: No such file or directory\nmore\n" {
		t.Errorf("the image has %s", got)
	}
	for at, want := range map[string]string{
		"99": "no step", "nothing": "no step", ":1": "no step", "before:1": "nothing before", "tools:x": "no step",
	} {
		w := k.terminal("build", "--shell-at", at, context)
		w.expect(want)
		w.ends(1)
	}
}

// TestBuildShellOffer holds that a build at a terminal offers a shell, that Enter declines it, and that nobody is asked who does not want that.
func TestBuildShellOffer(t *testing.T) {
	k := newKit(t)
	k.base()
	context := k.context("c", "FROM base\nRUN exit 3\n")
	w := k.terminal("build", context)
	w.expect("exit code 3")
	w.expect(" > ")
	w.enter("")
	w.ends(1)
	w = k.terminal("build", context)
	w.expect(" > ")
	w.enter("s")
	w.expect("# ")
	w.enter("exit 0")
	w.expect(" > ")
	w.enter("\x04") // the end of what is typed
	w.ends(1)
	w = k.terminal("build", context)
	w.expect(" > ")
	w.enter("\x03")
	w.ends(130)
	w = k.terminal("build", "--shell=never", context)
	w.expect("exit code 3")
	w.ends(1)
	w = k.terminal("build", "--shell", "--isolation", "chroot", context)
	w.expect("takes namespaces")
	w.ends(1)
	if a := k.do(k.command("build", "--shell", context)); a.status() != 1 || !strings.Contains(a.err.String(), "not a terminal") {
		t.Errorf("without a terminal: %d, %s", a.status(), a.err.String())
	}
	k.spotless("after builds that failed")
}
