package container

import (
	"sync"

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
		switch {
		case f.isolated.err != nil:
		case f.isolated.by == runtime.ByChroot:
			f.warn("RUN is isolated by chroot only, and shares network and processes with what is around it (" + why + ")")
		case runtime.InContainer() && rootless:
			f.warn("RUN is isolated by namespaces (" + why + ")")
		}
	})
	return f.isolated.by, f.isolated.err
}
