package forge

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/internal/flock"
	"github.com/forge-build/forge/runtime"
)

// patienceTime is between two looks at what is waited for. What is seen at two of them is told.
const patienceTime = time.Second

// A patience tells whoever waits for a container what for: another command, or a process that cannot be killed.
type patience struct {
	home   *Home
	record *containerRecord
	events event.Sink // may be nil
	told   []string   // nothing is told twice
}

// while calls do, and meanwhile look, until that has something to tell.
func (p *patience) while(look func() string, do func() error) error {
	if p.events == nil {
		return do()
	}
	done := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		tick := time.NewTicker(patienceTime)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			if text := look(); text != "" {
				p.tell(text)
				return
			}
		}
	})
	defer watch.Wait()
	defer close(done)
	return do()
}

func (p *patience) tell(text string) {
	if !slices.Contains(p.told, text) {
		p.told = append(p.told, text)
		p.events.Send(event.Event{Time: time.Now(), Kind: event.Note, Text: text})
	}
}

// lock takes the container's lock.
func (p *patience) lock(ctx context.Context) (lock *os.File, err error) {
	store := p.home.containers()
	err = p.locked("container "+p.record.Name, store.LockFile(p.record.ID), func() (err error) {
		lock, err = store.Lock(ctx, p.record.ID)
		return err
	})
	return lock, err
}

// locked calls do, which locks a file, and says with it what cannot be used meanwhile.
func (p *patience) locked(what, file string, do func() error) error {
	looks := 0
	return p.while(func() string {
		if looks++; looks < 2 {
			return ""
		}
		return fmt.Sprintf("waiting for another command that uses %s%s", what, processOf(flock.Holder(file)))
	}, do)
}

// processOf names a process, in words that follow others; "" if it is not known.
func processOf(pid int) string {
	name, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
	if pid == 0 || err != nil {
		return ""
	}
	return fmt.Sprintf(" (process %d, %s)", pid, strings.TrimSuffix(string(name), "\n"))
}

// end calls do, which ends the container.
func (p *patience) end(do func() error) error {
	var before []runtime.Stuck
	return p.while(func() string {
		run, _, err := p.home.containers().Run(p.record.ID)
		if err != nil {
			return ""
		}
		now := run.Ref.Stuck()
		i := slices.IndexFunc(now, func(s runtime.Stuck) bool { return slices.Contains(before, s) })
		if before = now; i < 0 {
			return ""
		}
		return fmt.Sprintf("waiting for process %d (%s) of container %s: the kernel does not end it before a device or a server has answered (state D)",
			now[i].Pid, now[i].Name, p.record.Name)
	}, do)
}
