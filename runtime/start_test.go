package runtime

import "testing"

func TestSmoke(t *testing.T) {
	out, exit := run(t, Spec{}, "id; mount; ls -l /dev; ps; cat /proc/self/status; ifconfig; exit 3")
	t.Log(out, exit)
}

func BenchmarkStart(b *testing.B) {
	s := Spec{Root: openDir(b, rootfs(b)), Args: []string{"true"}, Env: []string{"PATH=/bin"}}
	for b.Loop() {
		if _, exit := runArgs(b, s); exit.Code != 0 {
			b.Fatal(exit)
		}
	}
}
