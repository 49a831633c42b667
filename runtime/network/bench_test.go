package network

import (
	"context"
	"os"
	"testing"
)

func BenchmarkPrepare(b *testing.B) {
	if os.Getenv("NETWORK_TEST_HELPER") != "inside" {
		b.Skip("run in a network namespace")
	}
	dir := b.TempDir()
	for b.Loop() {
		n, err := Open(dir, dir).Prepare(context.Background(), byDefault)
		if err != nil {
			b.Fatal(err)
		}
		if err := n.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPrepareSecond(b *testing.B) {
	if os.Getenv("NETWORK_TEST_HELPER") != "inside" {
		b.Skip("run in a network namespace")
	}
	dir := b.TempDir()
	first, err := Open(dir, dir).Prepare(context.Background(), byDefault)
	if err != nil {
		b.Fatal(err)
	}
	defer first.Close()
	for b.Loop() {
		n, err := Open(dir, dir).Prepare(context.Background(), byDefault)
		if err != nil {
			b.Fatal(err)
		}
		if err := n.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
