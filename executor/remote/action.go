package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/cache/remote"
	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/reapi"
	"github.com/forge-build/forge/planner"
)

// An action is a job as the server knows it.
type action struct {
	digest reapi.Digest
	small  []reapi.Blob // what belongs to this action alone
	large  []reapi.Blob // this program, and layers
	layers []image.Layer
	packed []reapi.Digest // of layers: those that registries keep compressed
	chain  *chain         // that it belongs to; nil is none
	first  bool           // of it
	inline []string       // files that are to come with its result: of one that finds out what an input comes to, and makes no layer
}

// path is where a worker finds programs, such as newuidmap.
const path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// action makes an action of a job. Layers are brought here whose tars nobody knows the size of.
func (w *Worker) action(ctx context.Context, job executor.Job) (*action, error) {
	key, err := job.Key()
	if err != nil {
		return nil, err
	}
	a := &action{}
	a.chain, a.first = w.Cluster.chainOf(ctx, &job, key.Key())
	if job, err = w.whole(ctx, job, a); err != nil {
		return nil, err
	}
	task, err := executor.MarshalTask(job, w.Settings)
	if err != nil {
		return nil, err
	}
	self, err := w.Cluster.self()
	if err != nil {
		return nil, err
	}
	a.large = append(a.large, self)
	b := builder{client: w.Cluster.client, action: a}
	root := reapi.Directory{Files: []reapi.FileNode{
		{Name: "forge", Digest: &self.Digest, Executable: true}, {Name: executor.TaskFile, Digest: b.bytes(task)},
	}}
	if files := layerFiles(a.layers); len(files) > 0 {
		root.Directories = []reapi.DirectoryNode{{Name: executor.TaskLayers, Digest: b.message(reapi.Directory{Files: files})}}
	}
	outputs := []string{executor.OutcomeTar, executor.OutcomeFile}
	if job.Only != nil {
		outputs = outputs[1:]
		a.inline = outputs
	}
	properties := reapi.NewPlatform(w.properties(job.Op))
	sum := key.Key()
	act := reapi.Action{
		Command: b.message(reapi.Command{
			Arguments: []string{"./forge", "worker", executor.TaskFile}, Env: []reapi.Property{{Name: "PATH", Value: path}},
			Files: outputs, Paths: outputs, Platform: properties,
		}),
		Input: b.message(root), Timeout: reapi.NewDuration(w.Cluster.options.Timeout), Salt: sum[:], Platform: properties,
	}
	a.digest = *b.message(act)
	return a, b.err
}

// properties are those that a worker has to have for an operation.
func (w *Worker) properties(op planner.Op) map[string]string {
	p := map[string]string{}
	for name, value := range w.Cluster.options.Platform {
		p[name] = value
	}
	if run, ok := op.(*planner.Run); ok && run.Network != "none" {
		for name, value := range w.Cluster.options.Network {
			p[name] = value
		}
	}
	return p
}

// A builder collects the content of an action.
type builder struct {
	client *reapi.Client
	action *action
	err    error
}

func (b *builder) bytes(data []byte) *reapi.Digest {
	blob := reapi.BlobOf(data)
	b.action.small = append(b.action.small, blob)
	return &blob.Digest
}

func (b *builder) message(m any) *reapi.Digest {
	data, _, err := b.client.Marshal(m)
	b.err = errors.Join(b.err, err)
	return b.bytes(data)
}

func layerFiles(layers []image.Layer) []reapi.FileNode {
	files := make([]reapi.FileNode, len(layers))
	for i, l := range layers {
		d := digestOf(l)
		files[i] = reapi.FileNode{Name: l.DiffID.Encoded(), Digest: &d}
	}
	slices.SortFunc(files, func(a, b reapi.FileNode) int { return strings.Compare(a.Name, b.Name) })
	return files
}

// whole is a job as it travels: what it reads of contexts is in layers, and all layers are tars. What is no business of another
// machine is left out.
func (w *Worker) whole(ctx context.Context, job executor.Job, a *action) (executor.Job, error) {
	job.Inputs = slices.Clone(job.Inputs)
	for n := range job.Inputs {
		if job.Only != nil || !outside(job.Op, n) {
			continue
		}
		layer, err := w.Inputs.Pack(ctx, job.Op, n, job.Epoch)
		if err != nil {
			return job, err
		}
		job.Inputs[n].Layer = &layer
	}
	if run, ok := job.Op.(*planner.Run); ok && len(run.Proxy) > 0 {
		without := *run
		without.Proxy = nil
		job.Op = &without
	}
	tars := map[digest.Digest]image.Layer{}
	layers := job.Layers()
	w.askSizes(ctx, layers)
	for _, l := range layers {
		tar, blob, err := w.tar(ctx, l)
		if err != nil {
			return job, err
		}
		tars[l.DiffID] = tar
		if l.Blob.Digest != l.DiffID {
			a.packed = append(a.packed, blob.Digest)
		}
		a.layers, a.large = append(a.layers, tar), append(a.large, blob)
	}
	job.On = replaced(job.On, tars)
	job.Reads = slices.Clone(job.Reads)
	for i := range job.Reads {
		job.Reads[i] = replaced(job.Reads[i], tars)
	}
	for n, in := range job.Inputs {
		if in.Layer != nil {
			job.Inputs[n].Layer = new(tars[in.Layer.DiffID])
		}
	}
	return job, nil
}

func replaced(layers []image.Layer, by map[digest.Digest]image.Layer) (out []image.Layer) {
	for _, l := range layers {
		out = append(out, by[l.DiffID])
	}
	return out
}

// outside reports whether the n'th input of an operation is read of a build context.
func outside(op planner.Op, n int) bool {
	switch op := op.(type) {
	case *planner.Copy:
		return op.From.Read < 0 && op.Sources[n].Path != ""
	case *planner.Run:
		return op.Mounts[n].From != nil && op.Mounts[n].From.Read < 0
	}
	return false
}

// tar is a layer as a tar, and its content. What an action has made need not be here: then it has no content. Another that is not here
// comes when the server turns out not to have it, if its size is known.
func (w *Worker) tar(ctx context.Context, l image.Layer) (image.Layer, reapi.Blob, error) {
	if l.Blob.Digest == l.DiffID && w.Cluster.Made(l) {
		return l, reapi.Blob{Digest: digestOf(l)}, nil
	}
	here, err := w.Layers.HaveLayer(ctx, l)
	if err != nil {
		return l, reapi.Blob{}, err
	}
	if size := int64(0); !here {
		if size = w.Cluster.size(ctx, l); size > 0 {
			tar := tarOf(l, size)
			return tar, reapi.Blob{Digest: digestOf(tar), Open: w.fetcher(l, size)}, nil
		}
		if err := w.Fetch(ctx, []image.Layer{l}); err != nil {
			return l, reapi.Blob{}, err
		}
	}
	f, err := w.Layers.OpenTar(ctx, l)
	if err != nil {
		return l, reapi.Blob{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return l, reapi.Blob{}, err
	}
	tar := tarOf(l, info.Size())
	return tar, reapi.Blob{Digest: digestOf(tar), Open: w.opener(l)}, nil
}

// tarOf is a layer as a tar of so many bytes.
func tarOf(l image.Layer, size int64) image.Layer {
	return image.Layer{DiffID: l.DiffID, Blob: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: l.DiffID, Size: size}}
}

// fetcher opens the tar of a layer that has to come here for that, and is to have so many bytes.
func (w *Worker) fetcher(l image.Layer, size int64) func(ctx context.Context, offset int64) (io.ReadCloser, error) {
	return func(ctx context.Context, offset int64) (io.ReadCloser, error) {
		if err := w.Fetch(ctx, []image.Layer{l}); err != nil {
			return nil, err
		}
		f, err := w.Layers.OpenTar(ctx, l)
		if err != nil {
			return nil, err
		}
		info, err := f.Stat()
		if err == nil && info.Size() != size {
			err = fmt.Errorf("layer %s has %d bytes, and the server has it that there are %d", l.DiffID, info.Size(), size)
		}
		if err == nil {
			_, err = f.Seek(offset, io.SeekStart)
		}
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		return f, nil
	}
}

// opener opens the tar of a layer of this machine.
func (w *Worker) opener(l image.Layer) func(ctx context.Context, offset int64) (io.ReadCloser, error) {
	return func(ctx context.Context, offset int64) (io.ReadCloser, error) {
		f, err := w.Layers.OpenTar(ctx, l)
		if err != nil {
			return nil, err
		}
		if _, err := f.Seek(offset, io.SeekStart); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		return f, nil
	}
}

// upload sees to it that the server has all that an action needs. sent is told how many bytes were sent.
func (w *Worker) upload(ctx context.Context, a *action, sent func(int)) error {
	var large []reapi.Digest // that the server may not have
	for _, b := range a.large {
		if !w.Cluster.client.Has(b.Digest) {
			large = append(large, b.Digest)
		}
	}
	release := w.Cluster.hold(large)
	defer release()
	missing, err := w.Cluster.client.Missing(ctx, large)
	if err != nil {
		return err
	}
	var send []reapi.Blob
	for _, b := range a.large {
		if !slices.Contains(missing, b.Digest) {
			continue
		}
		if b.Open == nil {
			i := slices.IndexFunc(a.layers, func(l image.Layer) bool { return digestOf(l) == b.Digest })
			return &remote.LostError{Layer: a.layers[i], Place: w.Cluster.String(), Err: fs.ErrNotExist}
		}
		send = append(send, b)
	}
	if len(send) > 0 {
		err = w.Cluster.client.Store(ctx, send, sent)
	}
	if err == nil {
		for _, d := range a.packed {
			if slices.Contains(missing, d) || w.Cluster.missedSize(ctx, d.Name()) {
				w.Cluster.tell(ctx, d)
			}
		}
	}
	release()
	if err == nil {
		err = w.Cluster.client.StoreOnce(ctx, a.small, sent)
	}
	if err != nil {
		return fmt.Errorf("sending the job: %w", err)
	}
	return nil
}

var _ Layers = (*image.Layout)(nil)
