package monitor

import (
	"testing"
	"time"
)

// TestHold: a container is paused for as long as somebody holds it, and one that a user has paused stays so.
func TestHold(t *testing.T) {
	k := start(t, Config{}, untilTerm)
	paused := func() bool { return k.last().Paused }
	first, err := k.Hold(t.Context())
	if err != nil || !paused() {
		t.Fatalf("held: %v, paused %t", err, paused())
	}
	second, err := k.Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := first(); err != nil || !paused() {
		t.Errorf("one of two is gone: %v, paused %t", err, paused())
	}
	if err := second(); err != nil || paused() {
		t.Errorf("both are gone: %v, paused %t", err, paused())
	}

	conn, err := k.dial() // one that dies
	if err != nil {
		t.Fatal(err)
	}
	if err := request(conn, verbHold); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if paused() {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	conn.Close()
	for i := 0; paused(); i++ {
		if i == 500 {
			t.Fatal("paused after its holder died")
		}
		time.Sleep(10 * time.Millisecond)
	}

	if err := k.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	third, err := k.Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := third(); err != nil || !paused() {
		t.Errorf("paused by a user, and held: %v, paused %t", err, paused())
	}
	if err := k.Stop(t.Context(), 15, 5); err != nil {
		t.Fatal(err)
	}
}
