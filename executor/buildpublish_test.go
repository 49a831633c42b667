package executor

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/forge-build/forge/cache"
	"github.com/forge-build/forge/source"
)

func TestBuildRemembersOnlyWhatIsDurable(t *testing.T) {
	t.Parallel()
	w := &fakeWorker{}
	o := testOptions(t, w)
	g := new(graphMaker).chain("a", "b", "c")
	key := func(on ...string) cache.Key {
		job := Job{Op: g.Steps[len(on)].Op}
		for _, name := range on {
			job.On = append(job.On, fakeLayer(name))
		}
		job.Inputs = make([]source.Input, 1)
		h, err := job.Key()
		if err != nil {
			t.Fatal(err)
		}
		return h.Key()
	}
	publishing := 0
	o.Publish = func(context.Context) error {
		publishing++
		if _, ok, _ := o.Cache.Get(context.Background(), key()); ok {
			t.Error("a step was remembered before its layer was durable")
		}
		return nil
	}
	build1(t, g, o)
	if publishing != 1 {
		t.Errorf("published %d times, want once: all three took less than a second", publishing)
	}
	if _, ok, _ := o.Cache.Get(context.Background(), key("a", "b")); !ok {
		t.Error("the last step is not remembered")
	}
	build1(t, g, o)
	if publishing != 1 {
		t.Error("published although nothing was done")
	}

	full := errors.New("disk full")
	o = testOptions(t, w)
	o.Publish = func(context.Context) error { return full }
	if _, err := buildOne(t.Context(), g, o); !errors.Is(err, full) || strings.Count(err.Error(), "disk full") != 1 {
		t.Errorf("error = %v, want %v, once", err, full)
	}
	if _, ok, _ := o.Cache.Get(context.Background(), key()); ok {
		t.Error("remembered what could not be kept")
	}
}

func TestBuildPublishesEverySecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &fakeWorker{do: func(_ context.Context, job Job, _ io.Writer) (string, error) {
			time.Sleep(300 * time.Millisecond)
			return command0(job.Op), nil
		}}
		o := testOptions(t, w)
		published := 0
		o.Publish = func(context.Context) error { published++; return nil }
		build1(t, new(graphMaker).chain("a", "b", "c", "d", "e", "f", "g", "h", "i", "j"), o) // 3 s
		if published != 3 {
			t.Errorf("published %d times in 3 seconds, want 3", published)
		}
	})
}
