package journal_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"text/template"
	"time"

	"github.com/forge-build/forge/event/journal"
)

func attributes(pairs ...string) map[string]string {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return m
}

func record(t testing.TB, j journal.Journal, m ...journal.Message) {
	t.Helper()
	if err := j.Record(context.Background(), m...); err != nil {
		t.Fatal(err)
	}
}

// past is the actions of the events that a query finds now.
func past(t testing.TB, j journal.Journal, q journal.Query) string {
	t.Helper()
	if q.Until.IsZero() {
		q.Until = time.Now()
	}
	var found []string
	if err := j.Read(t.Context(), q, func(m journal.Message) error { found = append(found, m.Action); return nil }); err != nil {
		t.Fatal(err)
	}
	return strings.Join(found, " ")
}

// TestMessage: what docker's API and docker's commands show.
func TestMessage(t *testing.T) {
	m := journal.Of(journal.Container, "die", "0123", attributes("app", "x"), attributes("image", "alpine", "name", "web", "exitCode", "1"))
	m.TimeNano = 1767323045000000007
	j := journal.Open(filepath.Join(t.TempDir(), "events"))
	record(t, j, m)
	const want = `{"status":"die","id":"0123","from":"alpine","Type":"container","Action":"die",` +
		`"Actor":{"ID":"0123","Attributes":{"app":"x","exitCode":"1","image":"alpine","name":"web"}},` +
		`"scope":"local","time":1767323045,"timeNano":1767323045000000007}`
	err := j.Read(t.Context(), journal.Query{Until: time.Now()}, func(m journal.Message) error {
		if got, err := json.Marshal(m); err != nil || string(got) != want {
			t.Errorf("%s, %v, want\n%s", got, err, want)
		}
		const line = "2026-01-02T04:04:05.000000007+01:00 container die 0123 (app=x, exitCode=1, image=alpine, name=web)"
		if got := m.Line(time.FixedZone("", 3600)); got != line {
			t.Errorf("%s, want\n%s", got, line)
		}
		var b strings.Builder
		err := template.Must(template.New("").Parse("{{.Type}} {{.Status}} {{.Actor.Attributes.name}} {{.Time}}")).Execute(&b, m)
		if err != nil || b.String() != "container die web 1767323045" {
			t.Errorf("%s, %v", &b, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	n := journal.Of(journal.Volume, "create", "data", attributes("driver", "local"))
	if text, err := json.Marshal(n); err != nil || string(text) != `{"Type":"volume","Action":"create","Actor":{"ID":"data","Attributes":{"driver":"local"}},"scope":"local"}` {
		t.Errorf("%s, %v", text, err)
	}
}

// TestFilter: docker's filters.
func TestFilter(t *testing.T) {
	web := journal.Of(journal.Container, "start", "0123abcd", attributes("image", "docker.io/library/alpine:3", "name", "web", "app", "x", "tier", ""))
	pull := journal.Of(journal.Image, "pull", "localhost:5000/app:1", attributes("name", "localhost:5000/app"))
	health := journal.Of(journal.Container, "health_status: healthy", "0123abcd", attributes("name", "web"))
	exec := journal.Of(journal.Container, "exec_create: sh -c ls", "0123abcd", attributes("name", "web"))
	connect := journal.Of(journal.Network, "connect", "fedc", attributes("name", "front", "container", "0123abcd"))
	for _, test := range []struct {
		m       journal.Message
		filters string
		want    bool
	}{
		{web, "", true},
		{web, "type=container", true},
		{web, "type=image", false},
		{web, "type=image,type=container", true},
		{web, "Event = start", true},
		{web, "event=star", false},
		{web, "event=stop,event=start", true},
		{web, "container=web", true},
		{web, "container=we", true},
		{web, "container=0123", true},
		{web, "container=eb", false},
		{connect, "container=0123", false},
		{connect, "network=front", true},
		{connect, "network=fe,event=connect", true},
		{connect, "volume=front", true},
		{web, "image=alpine", true},
		{web, "image=docker.io/library/alpine:3", true},
		{web, "image=alp", false},
		{pull, "image=localhost:5000/app", true},
		{pull, "image=localhost:5000/app:1", true},
		{pull, "image=app", false},
		{web, "label=app", true},
		{web, "label=app=x", true},
		{web, "label=app=y", false},
		{web, "label=app=x,label=none", false},
		{web, "label=tier=", true},
		{health, "event=health_status", true},
		{health, "event=health_status: unhealthy", false},
		{health, "event=health_status: healthy", true},
		{exec, "event=exec_create", true},
		{exec, "event=exec_start", false},
		{web, "scope=local", true},
		{web, "scope=swarm", false},
		{web, "daemon=x", false},
	} {
		var f journal.Filter
		for text := range strings.SplitSeq(test.filters, ",") {
			if text == "" {
				continue
			}
			if err := f.Add(text); err != nil {
				t.Fatal(err)
			}
		}
		if got := f.Match(test.m); got != test.want {
			t.Errorf("%s of %s: %v", test.filters, test.m.Action, got)
		}
	}
	var f journal.Filter
	for text, want := range map[string]string{"type": "bad format of filter (expected name=value)", "color=red": "invalid filter 'color'"} {
		if err := f.Add(text); err == nil || err.Error() != want {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestQuery: since, until, and what comes later.
func TestQuery(t *testing.T) {
	j := journal.Open(filepath.Join(t.TempDir(), "events"))
	if got := past(t, j, journal.Query{}); got != "" {
		t.Errorf("no journal has %q", got)
	}
	begin := time.Now().Add(-time.Hour)
	for i := range 5 {
		m := journal.Of(journal.Image, fmt.Sprint(i), "x")
		m.TimeNano = begin.Add(time.Duration(i) * time.Minute).UnixNano()
		record(t, j, m)
	}
	for _, test := range []struct {
		since, until time.Duration
		want         string
	}{{0, time.Hour, "0 1 2 3 4"}, {2 * time.Minute, time.Hour, "2 3 4"}, {time.Minute, 3 * time.Minute, "1 2 3"}} {
		if got := past(t, j, journal.Query{Since: begin.Add(test.since), Until: begin.Add(test.until)}); got != test.want {
			t.Errorf("from %v to %v: %q, want %q", test.since, test.until, got, test.want)
		}
	}
	f := make(chan string)
	begun := make(chan struct{}, 1)
	ctx, stop := context.WithCancelCause(t.Context())
	go func() {
		var got []string
		err := j.Read(ctx, journal.Query{Since: time.Now()}, func(m journal.Message) error {
			if m.Action == "probe" {
				select {
				case begun <- struct{}{}:
				default:
				}
				return nil
			}
			if got = append(got, m.Action); m.Action == "last" {
				stop(errors.New("enough"))
			}
			return nil
		})
		f <- fmt.Sprint(strings.Join(got, " "), " ", err)
	}()
	for seen := false; !seen; { // it does not show what was before it
		record(t, j, journal.Of(journal.Image, "probe", "x"))
		select {
		case <-begun:
			seen = true
		case <-time.After(10 * time.Millisecond):
		}
	}
	record(t, j, journal.Of(journal.Image, "new", "x"), journal.Of(journal.Image, "last", "x"))
	if got := <-f; got != "new last enough" {
		t.Errorf("followed: %q", got)
	}
	end := errors.New("the reader is full")
	if err := j.Read(t.Context(), journal.Query{Since: begin}, func(journal.Message) error { return end }); !errors.Is(err, end) {
		t.Errorf("a reader that fails: %v", err)
	}
	begun2 := time.Now()
	if got := past(t, j, journal.Query{Since: begun2, Until: begun2.Add(200 * time.Millisecond)}); got != "" || time.Since(begun2) < 200*time.Millisecond {
		t.Errorf("until later: %q after %v", got, time.Since(begun2))
	}
}

// TestDamage: a line that was cut off does not spoil the next one, and an event that is too long is cut.
func TestDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events")
	j := journal.Open(path)
	record(t, j, journal.Of(journal.Image, "one", "x"), journal.Of(journal.Image, "torn", "x"))
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append([]byte("\x00\n{}\n"), text[:len(text)-5]...), 0o600); err != nil {
		t.Fatal(err)
	}
	record(t, j, journal.Of(journal.Image, "two", "x"))
	many := attributes("name", "web", "image", "alpine")
	for i := range 200 {
		many[fmt.Sprintf("label%d", i)] = strings.Repeat("ü", 30)
	}
	many["long"] = strings.Repeat("x", 1<<20)
	record(t, j, journal.Of(journal.Container, "long", "x", many), journal.Of(journal.Container, "last", "x"))
	if got := past(t, j, journal.Query{}); got != "one two long last" {
		t.Errorf("found %q", got)
	}
	if many["long"] == "" || len(many) != 203 {
		t.Error("the attributes of the caller were changed")
	}
	text, err = os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if len(line) > 4096 {
			t.Errorf("a line has %d bytes", len(line))
		}
		if strings.Contains(line, `"Action":"long"`) && (len(line) < 2000 || !strings.Contains(line, `"name":"web"`) || !strings.Contains(line, `"image":"alpine"`)) {
			t.Errorf("cut to %s", line)
		}
	}
	if err := j.Record(t.Context(), journal.Of(journal.Image, "x", strings.Repeat("x", 5000))); err == nil {
		t.Error("an event of what has a long name is recorded")
	}
	if err := journal.Open(filepath.Join(path, "events")).Record(t.Context(), journal.Of(journal.Image, "x", "x")); err == nil {
		t.Error("an event is recorded nowhere")
	}
}

// TestTooLong: what an event is about stays in its line, whatever labels an image has; the command of an exec is cut.
func TestTooLong(t *testing.T) {
	for _, test := range []struct {
		labels int
		action string
	}{{0, "exec_create: sh -c " + strings.Repeat("é", 4000)}, {3, "die"}, {1000, "die"}, {20_000, "die"}, {1000, "exec_start: " + strings.Repeat("\x01", 1<<20)}} {
		labels := map[string]string{"long": strings.Repeat("x", 10_000*min(test.labels, 1))}
		for i := range test.labels {
			labels[strconv.FormatInt(int64(i), 36)] = ""
		}
		j := journal.Open(filepath.Join(t.TempDir(), "events"))
		m := journal.Of(journal.Container, test.action, strings.Repeat("a", 64), labels, attributes("name", "web", "execDuration", "12", "exitCode", "3"))
		record(t, j, m)
		err := j.Read(t.Context(), journal.Query{Until: time.Now()}, func(m journal.Message) error {
			all := m.Actor.Attributes
			if all["name"] != "web" || all["execDuration"] != "12" || all["exitCode"] != "3" || len(all) < min(test.labels, 100) {
				t.Errorf("%d labels, %.20s: %d are left, %v", test.labels, test.action, len(all), all)
			}
			if !strings.HasPrefix(test.action, m.Action) || m.Status != m.Action {
				t.Errorf("action %q, status %q", m.Action, m.Status)
			}
			return errFound
		})
		if !errors.Is(err, errFound) {
			t.Errorf("%d labels, %.20s: not recorded: %v", test.labels, test.action, err)
		}
	}
}

var errFound = errors.New("found")

// TestCrowd: many writers at once lose nothing and tear nothing, through rotations, and a follower sees each event.
func TestCrowd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events")
	var seen atomic.Int64
	const writers, each = 8, 1500
	begin := time.Now()
	times := map[string]int{}
	done := make(chan error)
	end := errors.New("all")
	go func() {
		done <- journal.Open(path).Read(t.Context(), journal.Query{Since: begin}, func(m journal.Message) error {
			if times[m.Action]++; seen.Add(1) == writers*each {
				return end
			}
			return nil
		})
	}()
	var wg sync.WaitGroup
	var written atomic.Int64
	for w := range writers {
		wg.Go(func() {
			j := journal.Open(path)
			for i := range each {
				record(t, j, journal.Of(journal.Container, fmt.Sprint(w, "-", i), strings.Repeat("0", 64), attributes("pad", strings.Repeat("x", 200))))
				for written.Add(1); written.Load()-seen.Load() > 1000; { // or else files are gone before they are read
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-done:
		if !errors.Is(err, end) {
			t.Fatal(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("the follower has seen %d events of %d", seen.Load(), writers*each)
	}
	if len(times) != writers*each {
		t.Errorf("%d different events of %d", len(times), writers*each)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 2 {
		t.Errorf("files: %v, %v", entries, err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Size() > 2<<20+writers*4096 {
			t.Errorf("%s: %v", e.Name(), info.Size())
		}
	}
}

// BenchmarkRecord is what an event costs who makes it.
func BenchmarkRecord(b *testing.B) {
	j := journal.Open(filepath.Join(b.TempDir(), "events"))
	m := journal.Of(journal.Container, "start", strings.Repeat("0", 64), attributes("image", "alpine", "name", "web"))
	for b.Loop() {
		record(b, j, m)
	}
}

// TestSince: who asks for what is new does not read what is old, and misses nothing that was written out of order.
func TestSince(t *testing.T) {
	j := journal.Open(filepath.Join(t.TempDir(), "events"))
	begin := time.Now().Add(-time.Hour)
	var all []journal.Message
	for i := range 3000 { // of about 200 bytes each
		m := journal.Of(journal.Container, fmt.Sprint(i), "0123", attributes("name", "web", "pad", strings.Repeat("x", 100)))
		m.TimeNano = begin.Add(time.Duration(i) * time.Second).UnixNano()
		all = append(all, m)
	}
	all[2999].TimeNano, all[2990].TimeNano = all[2990].TimeNano, all[2999].TimeNano
	record(t, j, all...)
	for _, from := range []int{0, 1, 1500, 2990, 2999} {
		var want []string
		for _, m := range all {
			if m.TimeNano >= begin.Add(time.Duration(from)*time.Second).UnixNano() {
				want = append(want, m.Action)
			}
		}
		if got := past(t, j, journal.Query{Since: begin.Add(time.Duration(from) * time.Second)}); got != strings.Join(want, " ") {
			t.Errorf("from %d on: %d bytes of %q…", from, len(got), got[:min(40, len(got))])
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if got := past(t, j, journal.Query{Since: begin.Add(3000 * time.Second)}); got != "" {
		t.Errorf("nothing is so new as %q", got)
	}
	runtime.ReadMemStats(&after)
	const limit = 512 << 10 // the whole journal takes several times that
	if took := after.TotalAlloc - before.TotalAlloc; took > limit {
		t.Errorf("to ask for what is new took %d bytes of memory", took)
	}
}
