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
		n, err := Prepare(context.Background(), dir)
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
	first, err := Prepare(context.Background(), dir)
	if err != nil {
		b.Fatal(err)
	}
	defer first.Close()
	for b.Loop() {
		n, err := Prepare(context.Background(), dir)
		if err != nil {
			b.Fatal(err)
		}
		if err := n.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
