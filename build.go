package forge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/event/builds"
	"github.com/forge-build/forge/executor/local"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/parser"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/snapshot/filetree"
	"github.com/forge-build/forge/source"
)

// BuildOptions say what to build of what, and what to do with it. The zero value of all but Context works.
type BuildOptions struct {
	SourceOptions
	Target    string
	Args      map[string]string
	Labels    []string   // K=V
	Platforms []string   // os/arch[/variant]; more than one make an index; none is this machine's
	Epoch     *time.Time // SOURCE_DATE_EPOCH; nil leaves it to Args, where it may be "context", and to the build file
	needTime  bool       // of the context: see EpochOfContext
	StepOptions
	LimitOptions // of each RUN
	ReuseOptions
	ResultOptions
	RemoteOptions
	ClusterOptions
	BreakOptions
	Client *Client // lends what is not on this machine; nil where nobody does
}

// A Client is who has asked for a build over a connection, and what that machine lends: directories, in contexts and build files with names of
// [ClientPrefix], and what steps may read.
type Client struct {
	Ref     string                          // what the client calls the build: its ID, if that is letters and digits, else it has another
	Files   Lender                          // may be nil
	Content func(store string) ContentStore // local:DIR, of a cache, and oci:NAME, of an image; may be nil
	Steps   container.Client
}

// What a Client lends of its directories.
type (
	Lender      = source.Lender
	LoanFilter  = source.Filter
	Loan        = source.Loan
	FileEntry   = filetree.Entry
	FileTree    = filetree.Tree
	LocalOutput = func(ctx context.Context, dir string, tree FileTree) error
)

// ClientPrefix begins the name of a context, or of a build file, in a directory of the client: client://DIR, client://DIR/FILE.
const ClientPrefix = source.LentPrefix

// SourceOptions say what a build reads.
type SourceOptions struct {
	Context  string            // directory, "-" (a tar or a build file on Stdin), or URL of a tar, build file or repository
	File     string            // build file; "" is Dockerfile in the context, "-" is Stdin
	Stdin    io.Reader         // for "-"
	Contexts map[string]string // named contexts (--build-context)
	Lock     LockMode

	Definitions []string // files of this machine that the request comes from, for Affected
}

// StepOptions say what RUN may use, and where it runs.
type StepOptions struct {
	Secrets  []string `name:"secret" sep:"none" help:"Secret for RUN --mount=type=secret." placeholder:"id=ID[,src=FILE|env=VAR]"`
	SSH      []string `name:"ssh" sep:"none" help:"Agent or keys for RUN --mount=type=ssh." placeholder:"ID[=SOCKET|KEY]"`
	Allow    []string `help:"Grant network.host, security.insecure or device." placeholder:"ENTITLEMENT"`
	Network  string   `help:"Network of RUN: default, none or host." default:"default" placeholder:"MODE"` // "" is default
	AddHosts []string `name:"add-host" sep:"none" help:"Line for /etc/hosts of RUN." placeholder:"HOST:IP"`

	Isolation    string   `help:"How RUN is isolated: auto, namespaces or chroot." enum:",auto,namespaces,chroot,default" default:"auto" env:"FORGE_ISOLATION" placeholder:"HOW"` // "" and default are auto
	SecurityOpts []string `name:"security-opt" sep:"none" help:"Of RUN: seccomp=unconfined|FILE or no-new-privileges." placeholder:"OPTION"`                                      // Build reads the file
}

// ReuseOptions say what of earlier builds and pulls is used again.
type ReuseOptions struct {
	NoCache       bool     // do every step
	NoCacheFilter []string // do the steps of these stages
	Pull          PullPolicy
	Explain       bool      // say why a step is not reused, and which cache has answered
	Since         time.Time // what was done after it is used all the same; zero is nothing
	CacheOptions
	Mounts MountOptions
}

// ResultOptions say what becomes of the image.
type ResultOptions struct {
	Tags        []string
	Annotations map[string]string // of the manifest, and of the index of several
	Squash      bool              // make one layer of all those above the base image
	Outputs     []Output          // none keeps the image in the store

	Attest                AttestOptions
	IIDFile, MetadataFile string // where the image's ID and what was made, as JSON, are written to; "" is nowhere
}

// A SyntaxError is a mistake in a build file.
type SyntaxError = parser.Error

// A BuildResult is what a build made.
type BuildResult struct {
	Name string // of the target; "" if the build made no other image

	Descriptor ocispec.Descriptor // of the manifest, or of the index of several platforms
	Pushed     []image.Named      // as what registries know it, in the order in which it was pushed
	Images     []*image.Image     // one a platform
	Tags       []image.Reference

	Size         int64 // bytes of the images' layers without compression
	Reused, Done int   // steps that were answered from the cache, and that ran
	Duration     time.Duration

	Stopped *Stopped // where the build stopped, if BreakOptions asked for that: there is no image then. To be closed

	metadata metadata
	images   *resolver // where layers are that are not in the store
}

// Build makes the image that a build file describes and does with it what the outputs say. Nothing is tagged unless all
// of it succeeded; what was done of a failed build stays in the cache.
func (h *Home) Build(ctx context.Context, o BuildOptions) (*BuildResult, error) {
	results, err := h.BuildAll(ctx, []Target{{BuildOptions: o}})
	if len(results) == 0 {
		return nil, err
	}
	return results[0], err
}

// Builds are the last builds of this store, with all that they reported.
func (h *Home) Builds() builds.Store { return builds.Open(filepath.Join(h.Dir, "builds")) }

// buildID is the ID of a build: what its client calls it, if that can be one.
func (c *Client) buildID() string {
	if c != nil && len(c.Ref) > 0 && len(c.Ref) <= 64 && strings.Trim(c.Ref, "abcdefghijklmnopqrstuvwxyz0123456789") == "" {
		return c.Ref
	}
	return newID()[:12]
}

// report has the events of a build kept and puts a queue before their sink, and says how the build begins. It returns the ID
// of the build, and what says how it ended.
func (h *Home) report(b *building, results *[]*BuildResult, err *error) (id string, end func()) {
	show, kept := b.first().Events, h.Builds().Begin()
	sink := event.Sink(func(e event.Event) {
		if e.Kind != event.Origin {
			show.Send(e)
		}
		kept.Event(e)
	})
	id = b.first().Client.buildID()
	q := event.NewQueue(id, sink)
	for _, t := range b.targets {
		t.Events = q.Sink()
	}
	begin := event.Event{Kind: event.Begun, Time: b.began}
	begin.Begin = b.info()
	q.Sink().Send(begin)
	return id, func() {
		e := event.Event{Kind: event.Ended, Duration: time.Since(b.began)}
		if *err != nil {
			*err = failedStep(id, *err)
			e.Error = (*err).Error()
		} else if stopped := (*results)[0].Stopped; stopped != nil {
			e.Error = fmt.Sprintf("stopped %s step %d", stopped.Place, stopped.Step.Number)
		} else {
			var ids []string
			for _, r := range *results {
				ids = append(ids, r.ID().String())
			}
			e.Text = strings.Join(ids, " ")
			for _, t := range b.targets {
				for _, origin := range t.origins() {
					q.Sink().Send(event.Event{Kind: event.Origin, Detail: event.Detail{Origin: origin}})
				}
			}
		}
		q.Sink().Send(e)
		q.Close()
		if unkept := kept.Close(); unkept != nil {
			show.Send(event.Event{Time: time.Now(), Kind: event.Warning, Text: "the events of this build are not kept: " + unkept.Error()})
		}
	}
}

// check refuses what can be refused before anything is opened.
func (o *BuildOptions) check() error {
	if err := o.give(&local.Worker{Containers: &container.Factory{}}); err != nil {
		return err
	}
	if err := o.checkOffline(); err != nil {
		return err
	}
	for _, out := range o.Outputs {
		if out.Type == "local" {
			continue
		}
		if o.Attest.Any() && (out.Dest != "" || out.Layout != nil) {
			return fmt.Errorf("output %s: --sbom and --provenance go with an image that is kept or pushed, or with type=local; an archive has no place for them", out.Type)
		}
		if out.directory() {
			continue
		}
		if err := checkDest(out.Dest); err != nil {
			return fmt.Errorf("output %s: %w", out.Type, err)
		}
	}
	if err := checkDest(o.IIDFile); err != nil {
		return fmt.Errorf("--iidfile: %w", err)
	}
	if err := checkDest(o.MetadataFile); err != nil {
		return fmt.Errorf("--metadata-file: %w", err)
	}
	return nil
}

// commonEpoch is the SOURCE_DATE_EPOCH that an ARG of the build file sets, nil if none does.
func commonEpoch(graphs []*planner.Graph) (*time.Time, error) {
	epoch := graphs[0].Epoch
	for _, g := range graphs[1:] {
		if (g.Epoch == nil) != (epoch == nil) || epoch != nil && !g.Epoch.Equal(*epoch) {
			return nil, errors.New("the build file sets a SOURCE_DATE_EPOCH for each platform: set one for all, with --build-arg SOURCE_DATE_EPOCH=SECONDS")
		}
	}
	return epoch, nil
}

// parseTags reads the names to give to an image.
func parseTags(names []string) ([]image.Reference, error) {
	refs := make([]image.Reference, len(names))
	for i, name := range names {
		ref, err := image.ParseReference(name)
		if err != nil {
			return nil, fmt.Errorf("tag: %w", err)
		}
		if ref.Digest != "" {
			return nil, fmt.Errorf("tag %s: a tag cannot hold a digest", name)
		}
		refs[i] = ref
	}
	return refs, nil
}
