// Package planner turns instructions into a graph of steps. It is pure, but for asking what a FROM names.
//
// Only what changes a file system is a step. ENV, LABEL, USER, CMD and their like are folded into the steps after them
// and into the image's configuration. Stages that nobody needs are not planned; equal steps are one.
//
// The meaning of every instruction is that of BuildKit v0.34's frontend, to the text of history. It differs where that
// helps and hurts nobody: stage names are matched in any case in FROM too; a cycle, or a COPY --from of a stage that is
// not there, is an error only if the target needs it; a heredoc whose name is a path is refused here and not on its way
// to disk; history accounts for the layers of a base in their place. Not done, and errors: a SOURCE_DATE_EPOCH that names
// a stage or a named context, platforms other than linux.
package planner

import (
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/parser"
)

// A Graph is what has to be done to make one image.
type Graph struct {
	Steps    []*Step      // each after everything it needs
	Result   *Step        // whose file system becomes the image's; nil is the empty file system
	Config   image.Config // all of the image but its layers and the times
	Warnings []parser.Warning
	Unused   []string // build arguments that nothing declares

	Name     string           // of what it is the graph of, where a build makes several images; "" where it makes one
	Target   string           // name of the stage that was asked for, or of the last one; may be empty
	Platform ocispec.Platform // of the image
	Epoch    *time.Time       // SOURCE_DATE_EPOCH as the command line or a global ARG gives it, or nil
}

// A Step makes one file system out of others by adding exactly one layer (a Base adds its image's). Nothing writes to
// a Step once Plan has returned it.
type Step struct {
	Index   int     // in Graph.Steps
	Op      Op      // *Base, *Run, *Copy or *Mkdir
	On      *Step   // the file system to change; nil begins with an empty one
	Reads   []*Step // file systems to read from: COPY --from, RUN --mount=from
	Name    string  // for people: "RUN make install"
	Stage   string  // for people: the name of the stage it was first met in; stage-0, stage-1, … for one without
	NoCache bool    // do it even if it is in the cache (--no-cache-filter)
	Around  *Run    // what a RUN in its place is given, without a command; the Op itself if that is one. nil if no
	// instruction made the step

	Platform string // for people: os/arch[/variant] of that stage
	Target   string // for people: the platform of the image, if the stage has another
	Span     parser.Span

	For   []string   // for people: the names of the graphs that have the step, once they are joined
	Epoch *time.Time // SOURCE_DATE_EPOCH of its graph

	file   *parser.File // that the instruction is of; nil if the graph was not planned
	number int          // if it is not Index and 1
}

// An Op is what a step does.
//
//sumtype:decl
type Op interface{ op() } // *Base, *Run, *Copy or *Mkdir; a switch over it knows them all

func (*Base) op()  {}
func (*Run) op()   {}
func (*Copy) op()  {}
func (*Mkdir) op() {}

// A Base begins with the layers of an image.
type Base struct {
	Ref   string // as written, for people
	Image *image.Image
}

// A Mkdir makes a directory, its parents and the links on the way to it, as WORKDIR does. An existing directory is left
// as it is.
type Mkdir struct {
	Path string // absolute and clean
	User string // USER in force, "" is root: owner of what is made
}

// A Run executes a command.
type Run struct {
	Args     []string // the whole command line, the shell included
	Env      []string // K=V in order of definition, PATH included
	Proxy    []string // K=V to pass and to forget: not in a key, not in history
	Dir      string   // absolute and clean
	User     string   // USER in force, as written
	Files    []File   // scripts of heredocs: made executable under ScriptDir for the step's life
	Mounts   []Mount  // RUN --mount, in order
	Network  string   // "default", "none" or "host"
	Insecure bool     // RUN --security=insecure
	Devices  []Device // RUN --device
	Platform string   // os/arch[/variant] to execute for
	Hostname string   // BUILDKIT_SANDBOX_HOSTNAME; "" leaves it to who runs it

	// Request says, where a build makes several images, whose secrets, limits and hosts the command is given: see Options.Request.
	// It is in no key.
	Request int `json:"-"`
}

// ScriptDir is where a RUN finds its Files.
const ScriptDir = "/dev/pipes"

// A File is one that the build file holds, a heredoc.
type File struct {
	Name    string // base name
	Content string // expanded where it has to be
}

// A Device is a CDI device that a RUN asks for.
type Device struct {
	Name     string
	Required bool
}

// An Input names a file tree to read: the Read'th of Step.Reads or, if Read is negative, the build context called
// Context, of which "" is the main one.
type Input struct {
	Read    int
	Context string
}

// A MountType is the type of a RUN --mount.
type MountType string

// The types of a RUN --mount.
const (
	Bind   MountType = "bind"
	Cache  MountType = "cache"
	Tmpfs  MountType = "tmpfs"
	Secret MountType = "secret"
	SSH    MountType = "ssh"
)

// A Mount is one RUN --mount, expanded.
type Mount struct {
	Type     MountType
	Target   string // absolute and clean; "" for a secret that is only a variable
	From     *Input // Bind: always. Cache: what a new cache begins with, or nil
	Source   string // absolute path in From; Cache without From: path in the cache to mount, "" or "/" is all of it
	ReadOnly bool
	ID       string // Cache, Secret, SSH
	Sharing  string // Cache: "shared", "private" or "locked"
	Env      string // Secret: variable to set
	Required bool   // Secret, SSH
	Access          // Cache, Secret, SSH
	Size     int64  // Tmpfs: bytes, 0 is no limit
}

// Access is who may use what is mounted, and how.
type Access struct {
	UID, GID uint32
	Mode     *uint32 // permission bits; nil is the default of the mount's type
}

// A Copy copies files into the file system, as COPY and ADD do.
type Copy struct {
	From    Input
	Sources []Source
	Dest    string // absolute; clean, but for a trailing slash or "/." that means a directory
	Chown   string // as written and expanded; "" is 0:0 (for archives: as archived)
	Chmod   string // octal or symbolic; "" keeps
	Link    bool   // a layer independent of what lies below
	Parents bool
	Exclude []string
	Add     *Add // nil for COPY
}

// Independent reports whether the layer is the same whatever lies below it. As in BuildKit, --chmod takes that from --link.
func (c *Copy) Independent() bool { return c.Link && c.Chmod == "" }

// An Add is what ADD can do and COPY cannot.
type Add struct {
	Unpack   *bool  // nil unpacks local archives and not those of URLs
	Checksum string // digest of a URL's content; of a repository see [GitRef]
}

// A Source is one source of a COPY or ADD; exactly one of its fields is set.
type Source struct {
	Path string // in Copy.From, from its root; may hold wildcards; with Copy.Parents "/./" marks the pivot
	File *File  // heredoc
	URL  string // http or https
	Git  *GitRef
}
