package runtime

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
)

func TestTerminal(t *testing.T) {
	r, w := io.Pipe()
	var out bytes.Buffer
	s := Spec{
		Root: openDir(t, rootfs(t)), Env: []string{"PATH=/bin"}, Terminal: true, Rows: 33, Cols: 77, User: User{UID: 7, GID: 8},
		Args: []string{"sh", "-c", `read -r line; echo "got $line"; tty; stty size; ls -ln /dev/console /dev/pts/0 | cut -c1-40; echo $(ls -l /proc/self/fd/2); exec 3</dev/tty && echo ctty; kill -WINCH $$`},
	}
	p, err := Start(context.Background(), s, Stdio{In: r, Out: &out})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("hello\n")); err != nil {
		t.Fatal(err)
	}
	exit, err := p.Wait()
	if err != nil || exit.Code != 0 {
		t.Errorf("exit %v, %v", exit, err)
	}
	for _, want := range []string{"got hello", "/dev/pts/0", "33 77", "ctty", "crw--w----    1 7        5"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

// Ctrl-C typed at the terminal reaches what runs in the foreground.
func TestTerminalInterrupt(t *testing.T) {
	r, w := io.Pipe()
	screen, out := io.Pipe()
	s := Spec{
		Root: openDir(t, rootfs(t)), Env: []string{"PATH=/bin"}, Terminal: true,
		Args: []string{"sh", "-c", `trap 'echo interrupted; exit 9' INT; echo ready; while :; do sleep 0.05; done`},
	}
	p, err := Start(context.Background(), s, Stdio{In: r, Out: out})
	if err != nil {
		t.Fatal(err)
	}
	seen := make(chan string)
	go func() {
		lines := bufio.NewReader(screen)
		if line, err := lines.ReadString('\n'); err != nil || !strings.HasPrefix(line, "ready") {
			t.Errorf("the terminal shows %q, %v", line, err)
		}
		w.Write([]byte{3})
		rest, _ := io.ReadAll(lines)
		seen <- string(rest)
	}()
	exit, err := p.Wait()
	out.Close()
	if text := <-seen; err != nil || exit.Code != 9 || !strings.Contains(text, "interrupted") {
		t.Errorf("exit %v, %v: %s", exit, err, text)
	}
}
