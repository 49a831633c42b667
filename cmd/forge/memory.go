package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strings"
)

// limitMemory has few collections while little is in use, and many before more memory is touched than the work needs:
// peaks stay below 64 MB, or 96 MB where compressors and decompressors are at work.
func limitMemory(command string) {
	debug.SetGCPercent(400)
	least := int64(72 << 20)
	if name, _, _ := strings.Cut(command, " "); slices.Contains([]string{"build", "bake", "bud", "build-using-dockerfile", "executor", "push", "run", "worker"}, name) {
		least = 40 << 20
	}
	debug.SetMemoryLimit(least)
	afterCollection(func() { followHeap(least) })
}

// followHeap raises the limit where so much is in use that it would have the collector run all the time, and lowers it again. Large buffers
// hold no pointers, so that to collect beside them costs next to nothing: what may be garbage is measured by what has to be looked at.
func followHeap(least int64) {
	heap := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/heap:bytes"}}
	metrics.Read(heap)
	limit := max(least, int64(heap[0].Value.Uint64()+heap[1].Value.Uint64()/2)+8<<20)
	if now := debug.SetMemoryLimit(-1); limit > now+now/16 || limit < now-now/16 {
		debug.SetMemoryLimit(limit)
	}
}

// A collected has one thing to do: to be collected.
type collected struct{ again func() }

// afterCollection has do done after each collection.
func afterCollection(do func()) {
	runtime.SetFinalizer(&collected{do}, func(c *collected) {
		c.again()
		afterCollection(c.again)
	})
}
