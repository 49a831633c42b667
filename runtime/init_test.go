package runtime

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// With Init the command is not process 1, and its end is that of the container.
func TestInit(t *testing.T) {
	root := rootfs(t)
	for _, test := range []struct {
		name, script, want string
		exit               Exit
		spec               Spec
	}{
		{name: "not process 1", script: "echo $$; cat /proc/1/comm; tr '\\0' ' ' </proc/1/cmdline | cut -c1-17", want: "2\nforge-init\nforge-init -- sh \n"},
		{name: "exit code", script: "exit 7", exit: Exit{Code: 7}},
		{name: "killed", script: "kill -9 $$", exit: Exit{Code: 137}},
		{name: "signalled", script: "kill -TERM $$; sleep 5", exit: Exit{Code: 143}},
		{name: "reaps", script: "for i in 1 2 3; do (sleep 0 & ); done; sleep 0.1; grep -l '^State:.Z' /proc/[0-9]*/status; echo end", want: "end\n"},
		{name: "process group", script: "cut -d' ' -f5,6 /proc/$$/stat", want: "2 1\n"},
		{name: "descriptors", script: "sleep 0.1; ls /proc/self/fd; ls -l /proc/1/fd | grep -c socket; true", want: "0\n1\n2\n3\n0\n"},
		{name: "rights", script: "grep -E '^(CapEff|CapBnd|Seccomp|NoNewPrivs):' /proc/1/status | tr -d '\\t'", want: "CapEff:00000000a80425fb\nCapBnd:00000000a80425fb\nNoNewPrivs:0\nSeccomp:2\n"},
		{name: "rights of a user", script: "grep -E '^(CapEff|Uid):' /proc/1/status | tr -d '\\t'", want: "Uid:5555\nCapEff:0000000000000000\n", spec: Spec{User: User{UID: 5}}},
		{name: "signal mask", script: "grep SigBlk /proc/self/status | tr -d '\\t'", want: "SigBlk:0000000000000000\n"},
		{name: "others end with it", script: "sleep 1000 & exit 3", exit: Exit{Code: 3}},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.spec.Root, test.spec.Init = openDir(t, root), true
			if out, exit := run(t, test.spec, test.script); out != test.want || exit != test.exit {
				t.Errorf("exit %+v, want %+v, got:\n%s\nwant:\n%s", exit, test.exit, out, test.want)
			}
		})
	}
	for command, want := range map[string]string{
		"nothing": "*runtime.ExecError nothing: no such file or directory",
		"/bin":    "*runtime.ExecError /bin: permission denied",
	} {
		_, err := Start(context.Background(), Spec{Root: openDir(t, root), Init: true, Args: []string{command}, Env: []string{"PATH=/bin"}}, Stdio{})
		if got := fmt.Sprintf("%T %v", err, err); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// A signal reaches a command that has no handler for it: as process 1 it would get none.
func TestInitSignal(t *testing.T) {
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGHUP, unix.SIGUSR2} {
		s := Spec{Root: openDir(t, rootfs(t)), Init: true, Args: []string{"sleep", longTime()}, Env: []string{"PATH=/bin"}}
		p, err := Start(context.Background(), s, Stdio{})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Signal(sig); err != nil {
			t.Error(err)
		}
		if exit, err := p.Wait(); err != nil || exit.Code != 128+int(sig) {
			t.Errorf("%v: exit %+v, %v", sig, exit, err)
		}
	}
}

// The command is in the foreground of the terminal: what is typed interrupts it.
func TestInitTerminal(t *testing.T) {
	r, w := io.Pipe()
	screen, out := io.Pipe()
	s := Spec{
		Root: openDir(t, rootfs(t)), Env: []string{"PATH=/bin"}, Terminal: true, Init: true,
		Args: []string{"sh", "-c", `trap 'exit 9' INT; exec 3</dev/tty && echo ready; while :; do sleep 0.05; done`},
	}
	p, err := Start(context.Background(), s, Stdio{In: r, Out: out})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		if line, err := bufio.NewReader(screen).ReadString('\n'); err != nil || !strings.HasPrefix(line, "ready") {
			t.Errorf("the terminal shows %q, %v", line, err)
		}
		w.Write([]byte{3})
		_, _ = io.Copy(io.Discard, screen)
	}()
	if exit, err := p.Wait(); err != nil || exit.Code != 9 {
		t.Errorf("exit %v, %v", exit, err)
	}
	out.Close()
}

// While process 1 executes the command, others who share its pid namespace can look into it. Nothing that leads to the caller is there but
// a pipe, and whoever kills it ends the start.
func TestInitIsOnItsOwn(t *testing.T) {
	root := rootfs(t)
	busybox, err := os.ReadFile(filepath.Join(root, "bin/busybox"))
	command := filepath.Join(root, "work/true")
	if err := errors.Join(err, os.WriteFile(command, busybox, 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, killed := range []bool{false, true} {
		// While somebody has a lease of a file, whoever opens it waits, also to execute it.
		lease, err := os.Open(command)
		if err != nil {
			t.Fatal(err)
		}
		defer lease.Close()
		if _, err := unix.FcntlInt(lease.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
			t.Skipf("no leases here: %v", err)
		}
		ended := make(chan error)
		go func() {
			p, err := Start(context.Background(), Spec{Root: openDir(t, root), Init: true, Args: []string{"/work/true"}}, Stdio{})
			if err == nil {
				_, err = p.Wait()
			}
			ended <- err
		}()
		process1 := ""
		await(t, "process 1 executes nothing", func() bool {
			process1 = executing()
			return process1 != ""
		})
		links, _ := filepath.Glob(process1 + "/fd/*")
		for _, link := range links {
			if to, _ := os.Readlink(link); strings.HasPrefix(to, "socket:") {
				t.Errorf("process 1 holds %s", to)
			}
		}
		if killed {
			pid, _ := strconv.Atoi(filepath.Base(process1))
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		lease.Close()
		if err := <-ended; killed != (fmt.Sprint(err) == "init: it was killed") || !killed && err != nil {
			t.Errorf("killed is %v: %v", killed, err)
		}
	}
}

// executing is the directory in /proc of a process 1 of this process's, which waits for its child to execute the command; "" if there is
// none.
func executing() string {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		call, _ := os.ReadFile(dir + "/syscall")
		process1 := parentOf(dir)
		name, _ := os.ReadFile(process1 + "/comm")
		if strings.HasPrefix(string(call), itoa(unix.SYS_EXECVE)+" ") && string(name) == "forge-init\n" &&
			parentOf(parentOf(process1)) == "/proc/"+itoa(os.Getpid()) {
			return process1
		}
	}
	return ""
}
