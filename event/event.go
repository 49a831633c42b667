// Package event is the vocabulary of what forge reports while it works: one stream of plain data.
//
// Builds, pulls, pushes, copies, runs, loads and saves send it; terminals, logs, files and APIs show, keep or forward it.
// An [Event] holds no pointer into a graph or a store: written as JSON and read again, in another process, it says the
// same. Nothing beside the stream calls back.
package event

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// A Kind says what an [Event] is about, and which of its fields have a meaning.
type Kind string

// Kinds of events. A build begins with Begun and ends with Ended; it has neither while its sources are opened and its graph is
// planned. A step is first Planned. Then it is Cached, or it is Started and later Done, Failed or Canceled. A step that is only
// Planned when the build ends was not reached.
const (
	Begun    Kind = "begun"    // the build begins; Begin says what it is asked for
	Planned  Kind = "planned"  // Step is part of the build; Source is where its instruction stands. Comes before any step begins
	Cached   Kind = "cached"   // Step is answered from the cache, or a base is in the store; Duration is what it took when it was done, Bytes the size of its layer
	Started  Kind = "started"  // Step begins; without a Step, the command of a run is about to
	Explain  Kind = "explain"  // Why says why Step is not answered from the cache, and Text says it in a sentence
	Log      Kind = "log"      // Text is a line that the command of Step printed, without the end of the line
	Progress Kind = "progress" // Text is how a line stands that the command of Step is still writing; the next Log or Progress of Step replaces it
	Done     Kind = "done"     // Step ends; Duration is what it took, Bytes the size of its layer
	Failed   Kind = "failed"   // Step ends; Error is why, Text the last lines that its command printed, and Failure says more
	Canceled Kind = "canceled" // Step ends because the build does; Duration is how long it was at work
	Blob     Kind = "blob"     // Blob is copied: Bytes of Total so far. Step is the step that needs it, if there is one
	Lint     Kind = "lint"     // Text is what a lint rule found at Source, after the rule's name and a colon
	Note     Kind = "note"     // Text is a sentence about the whole
	Warning  Kind = "warning"  // Text is a sentence about Step, or about the whole
	Origin   Kind = "origin"   // Origin says where an image came from that the build made; only in the events of a build that are kept
	Ended    Kind = "ended"    // the build ends: Error is why it failed, Duration what it took, Text the ID of what it made
)

// An Event is one thing that happened. Fields that have no meaning for its kind are zero, and left out of its JSON.
type Event struct {
	Time     time.Time     `json:"time,omitzero"`
	Build    string        `json:"build,omitempty"` // names the build, pull, push, … that the event belongs to
	Kind     Kind          `json:"event"`
	Step     *Step         `json:"step,omitempty"` // not written to after it was sent
	Blob     *BlobInfo     `json:"blob,omitempty"` // not written to after it was sent
	Source   Source        `json:"source,omitzero"`
	Text     string        `json:"text,omitempty"`
	Bytes    int64         `json:"bytes,omitempty"`
	Total    int64         `json:"total,omitempty"`    // in bytes; -1 if it is not known
	Duration time.Duration `json:"duration,omitempty"` // in nanoseconds
	Error    string        `json:"error,omitempty"`
	Detail
}

// A Detail is what only events of one kind have. What it points to is not written to after it was sent.
type Detail struct {
	Begin   *BuildInfo  `json:"begin,omitempty"`   // Begun
	Failure *Failure    `json:"failure,omitempty"` // Failed
	Why     *Why        `json:"why,omitempty"`     // Explain; Started, of a step that is done in any case; Failed
	Key     string      `json:"key,omitempty"`     // Cached, Started: the key of Step in the cache
	Place   string      `json:"place,omitempty"`   // Cached: the cache that has answered; "" is this machine's
	Usage   *Usage      `json:"usage,omitempty"`   // Done, Failed: of a command
	Origin  *Provenance `json:"origin,omitempty"`  // Origin
	Totals  *Totals     `json:"totals,omitempty"`  // Ended, in the events of a build that are kept
}

// A Provenance says where an image came from.
type Provenance struct {
	Platform  string          `json:"platform"` // os/arch[/variant] of the image
	Type      string          `json:"type"`     // of the predicate: a URI of SLSA's
	Predicate json.RawMessage `json:"predicate"`
}

// Totals say how the steps of a build went.
type Totals struct {
	Steps    int  `json:"steps"`  // that were planned
	Cached   int  `json:"cached"` // without bases
	Done     int  `json:"done"`
	Failed   int  `json:"failed,omitempty"`
	Canceled bool `json:"canceled,omitempty"` // a step was
}

// A BuildInfo says what a build is asked for. It holds no values of arguments and secrets.
type BuildInfo struct {
	Names     []string `json:"names,omitempty"` // that the images are to get
	Context   string   `json:"context"`         // as the caller gave it, without passwords
	File      string   `json:"file,omitempty"`  // of the build, if it is not the context's own
	Target    string   `json:"target,omitempty"`
	Platforms []string `json:"platforms,omitempty"`
	Dir       string   `json:"dir,omitempty"`     // in which the caller stood
	Targets   []string `json:"targets,omitempty"` // names of what is built, where that is more than one image
}

// Name is what people call the build: several targets by theirs, one image by the first name that it is to get, else by its target, else by
// its context.
func (i *BuildInfo) Name() string {
	switch {
	case len(i.Targets) > 1, len(i.Targets) == 1 && len(i.Names) == 0:
		return JoinTargets(i.Targets)
	case len(i.Names) > 0:
		return i.Names[0]
	}
	return i.Context
}

// JoinTargets names targets in few words: "api", "api+web", and "api+4" for five. It is "" where there is none.
func JoinTargets(names []string) string {
	if n := len(names); n > 2 {
		return fmt.Sprintf("%s+%d", names[0], n-1)
	}
	return strings.Join(names, "+")
}

// A Usage is what a command and all that it started have used.
type Usage struct {
	CPU     time.Duration `json:"cpu"`               // of all processors, in nanoseconds; user and system
	Memory  int64         `json:"memory"`            // bytes that were resident, at most, of the process that had the most
	Read    int64         `json:"read,omitempty"`    // bytes, from disks
	Written int64         `json:"written,omitempty"` // bytes, to disks
}

// A Failure says more of a step that failed.
type Failure struct {
	ExitCode int    `json:"exitCode,omitempty"` // of the step's command; 0 if it was not a command that failed
	Excerpt  string `json:"excerpt,omitempty"`  // lines of the build file, those of the step marked
}

// A StepKind says what a step does.
type StepKind string

// Kinds of steps. Those of a build file come first, and then one for each output of the build.
const (
	Base   StepKind = "base" // brings the layers of an image that a FROM or --from names
	Run    StepKind = "run"
	Copy   StepKind = "copy" // also ADD
	Mkdir  StepKind = "mkdir"
	Export StepKind = "export" // keeps what was built: as an image of the store, as an archive, as files
	Push   StepKind = "push"   // sends it to a registry
)

// A Step is the identity of a step in a build.
type Step struct {
	Number   int      `json:"number"` // from 1, in the order of the plan; no two steps of a build have one number, also if they are for different platforms
	Kind     StepKind `json:"kind"`
	Name     string   `json:"name"`               // such as "RUN make install"
	Stage    string   `json:"stage,omitempty"`    // the stage's name; stage-0, stage-1, … for one without
	Index    int      `json:"index,omitempty"`    // from 1, among the steps of its stage and platforms
	Count    int      `json:"count,omitempty"`    // of the steps of its stage and platforms
	Digest   string   `json:"digest,omitempty"`   // of a base's manifest
	Needs    []int    `json:"needs,omitempty"`    // numbers of the steps that it stands on or reads
	Platform string   `json:"platform,omitempty"` // os/arch[/variant] of its stage
	Target   string   `json:"target,omitempty"`   // platform of the image, if the stage has another
	For      []string `json:"for,omitempty"`      // names of the targets that need it, where the build has several
}

// Title is the step's number and name.
func (s *Step) Title() string { return fmt.Sprintf("#%d %s", s.Number, s.Name) }

// A Source is a place in a build file.
type Source struct {
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"` // from 1
	End  int    `json:"end,omitempty"`  // the last line, if there are several
}

// A BlobInfo says which blob is copied, and how far that has come.
type BlobInfo struct {
	// Digest is, where it is not known yet: of a layer that is compressed while it is sent, the diffID; of a file that is read
	// from an archive, "file:" and its name.
	Digest    string `json:"digest"`
	MediaType string `json:"mediaType,omitempty"`
	State     State  `json:"state"`

	// Of a layer that is compressed while it is sent, so that nobody knows its size before: how much of its tar has been read, and how
	// long that is, in bytes.
	Read   int64 `json:"read,omitempty"`
	Length int64 `json:"length,omitempty"`
}

// A State is how far a blob or manifest has come.
type State string

// States, in the order in which they come. Exists, Mounted and Copied are the last of one blob.
const (
	Waiting State = "waiting" // for its turn, or for another process that copies it
	Copying State = "copying"
	Exists  State = "exists"  // it was there before
	Mounted State = "mounted" // the registry took it from another of its repositories
	Copied  State = "done"
)

// A Sink takes events. Whoever sends to one says whether several goroutines may at once; nil drops them.
type Sink func(Event)

// Send passes e on, unless there is nobody to take it.
func (s Sink) Send(e Event) {
	if s != nil {
		s(e)
	}
}
