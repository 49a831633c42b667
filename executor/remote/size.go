package remote

import (
	"context"
	"strconv"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/forge-build/forge/cache/cas"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/flight"
	"github.com/forge-build/forge/internal/reapi"
)

// An action names the tars of its layers, and so their sizes. Of a layer that a registry keeps compressed, only who has it knows that.
// Who sends a layer to the server therefore leaves its size there, under a name as package cas has them: a machine that has nothing of a
// base image looks actions up, and has new ones executed, without fetching it.

// sizes are those of tars whose layers are not here, in bytes; 0 is not known.
type sizes = flight.Group[digest.Digest, int64]

// sizeName is the name that the size of a tar has on the server.
func sizeName(d digest.Digest) string { return "tar/" + d.Encoded() }

// size asks the server for the size of the tar of a layer, once; 0 is not known.
func (c *Cluster) size(ctx context.Context, l image.Layer) int64 {
	if l.Blob.Digest == l.DiffID {
		return l.Blob.Size
	}
	f, first := c.sizes.Of(l.DiffID)
	if first {
		f.Land(c.askSize(ctx, l))
	}
	size, _ := f.Wait(ctx) // else it is not known
	return size
}

func (c *Cluster) askSize(ctx context.Context, l image.Layer) int64 {
	text, err := cas.Bucket{Client: c.client}.Read(ctx, sizeName(l.DiffID))
	if err != nil {
		return 0
	}
	size, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil || size < 0 {
		return 0
	}
	return size
}

// missedSize reports whether the size of a tar was asked for in vain.
func (c *Cluster) missedSize(ctx context.Context, d digest.Digest) bool {
	f := c.sizes.Find(d)
	if f == nil {
		return false
	}
	size, err := f.Wait(ctx)
	return err == nil && size == 0
}

// askSizes asks for the sizes of all tars that are not here at once.
func (w *Worker) askSizes(ctx context.Context, layers []image.Layer) {
	var all sync.WaitGroup
	defer all.Wait()
	for _, l := range layers {
		if l.Blob.Digest == l.DiffID {
			continue
		}
		if here, err := w.Layers.HaveLayer(ctx, l); err == nil && !here {
			all.Go(func() { w.Cluster.size(ctx, l) })
		}
	}
}

// tell leaves the size of the tar of a layer on the server, for machines that do not have the layer. A server that takes no names does
// without.
func (c *Cluster) tell(ctx context.Context, d reapi.Digest) {
	caps, err := c.client.Capabilities(ctx)
	if err != nil || !caps.CanUpdate() {
		return
	}
	_ = cas.Bucket{Client: c.client}.Write(ctx, sizeName(d.Name()), strconv.AppendInt(nil, d.Size, 10)) // then others fetch the layer
}
