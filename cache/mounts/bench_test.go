package mounts

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// npm fills a directory as a package manager's cache is: 8,000 archives that do not compress and 8,000 texts that do, 800 MB in all.
func npm(b *testing.B, dir string) {
	b.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 8000 {
		size := 20_000 + r.IntN(120_000)
		write(b, dir, fmt.Sprintf("content/%02x/%02x/%d.tgz", r.IntN(256), r.IntN(256), i), noise(byte(i), size)[:size])
		write(b, dir, fmt.Sprintf("index/%02x/%d", r.IntN(256), i), fmt.Appendf(nil, "%0*d", 10_000+r.IntN(20_000), i))
	}
}

func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func maxMemory(b *testing.B) float64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Maxrss) / 1024
}

// BenchmarkSaveOne saves 800 MB after one dependency was added: what is sent, and what it costs.
func BenchmarkSaveOne(b *testing.B) {
	p, _, _ := newShelf(b)
	dir, memory := b.TempDir(), filepath.Join(b.TempDir(), "memory")
	npm(b, dir)
	start, begun := cpu(b), time.Now()
	first := remembering(b, p, cargo, dir, memory)
	b.ReportMetric((cpu(b) - start).Seconds(), "first-cpu-s")
	b.ReportMetric(time.Since(begun).Seconds(), "first-s")
	b.ReportMetric(float64(first.Size)/1e6, "tar-MB")
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		write(b, dir, fmt.Sprintf("content/%02x/%02x/new%d.tgz", i*37%256, i*91%256, i), noise(byte(200+i), 300_000))
		write(b, dir, fmt.Sprintf("index/%02x/new%d", i*53%256, i), noise(byte(100+i), 3_000))
		start := cpu(b)
		b.StartTimer()
		saved := remembering(b, p, cargo, dir, memory)
		b.ReportMetric((cpu(b) - start).Seconds(), "cpu-s/op")
		b.ReportMetric(float64(saved.Sent)/1e6, "sent-MB/op")
	}
	b.ReportMetric(maxMemory(b), "memory-MB")
}

// BenchmarkRestore restores that from a directory: what it costs beside the copy of the same bytes.
func BenchmarkRestore(b *testing.B) {
	p, store, _ := newShelf(b)
	dir := b.TempDir()
	npm(b, dir)
	save(b, p, cargo, dir)
	for b.Loop() {
		store.fetched.Store(0)
		start := cpu(b)
		back, err := restored(b, p, cargo)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric((cpu(b) - start).Seconds(), "cpu-s/op")
		b.ReportMetric(float64(store.fetched.Load())/1e6, "fetched-MB/op")
		_ = filepath.Clean(back)
	}
	b.ReportMetric(maxMemory(b), "memory-MB")
}
