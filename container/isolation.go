package container

import (
	"sync"
	"time"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/runtime"
)

// isolated is what Factory.Isolation comes to.
type isolated struct {
	once sync.Once
	by   runtime.Isolation
	err  error
}

// Isolate finds out, once, how processes are isolated here, and says so if it is less than namespaces give.
func (f *Factory) Isolate() (runtime.Isolation, error) {
	f.isolated.once.Do(func() {
		if f.Isolation == "" {
			f.isolated.by = runtime.ByNamespaces
			return
		}
		var why string
		rootless, _ := runtime.Rootless()
		f.isolated.by, why, f.isolated.err = runtime.FindIsolation(f.Isolation)
		const shared = "RUN is isolated by chroot only, and shares network and processes with what is around it"
		switch {
		case f.isolated.err != nil:
		case f.isolated.by == runtime.ByChroot && f.Isolation == runtime.ByChroot:
			f.note(shared)
		case f.isolated.by == runtime.ByChroot:
			f.warn(shared + " (" + why + ")")
		case runtime.InContainer() && rootless:
			f.note("RUN is isolated by namespaces (" + why + ")")
		}
	})
	return f.isolated.by, f.isolated.err
}

// note sends a sentence about the build.
func (f *Factory) note(text string) {
	f.Events.Send(event.Event{Time: time.Now(), Kind: event.Note, Text: text})
}
