// Package event is the vocabulary of what forge reports while it works: one stream of plain data.
//
// Builds, pulls, pushes, copies, runs, loads and saves send it; terminals, logs, files and APIs show, keep or forward it.
// An [Event] holds no pointer into a graph or a store: written as JSON and read again, in another process, it says the
// same. Nothing beside the stream calls back.
package event

import "time"

// A Kind says what an [Event] is about, and which of its fields have a meaning.
type Kind string

// Kinds of events. A step is first Planned. Then it is Cached, or it is Started and later Done or Failed; a build that is
// cancelled leaves steps without an end.
const (
	Planned Kind = "planned" // Step is part of the build; Source is where its instruction stands. Comes before any step begins
	Cached  Kind = "cached"  // Step is answered from the cache; Duration is what it took when it was done
	Started Kind = "started" // Step begins; without a Step, the command of a run is about to
	Explain Kind = "explain" // Text is a sentence: why Step is not answered from the cache
	Log     Kind = "log"     // Text is a line that the command of Step printed, without the end of the line
	Done    Kind = "done"    // Step ends; Duration is what it took
	Failed  Kind = "failed"  // Step ends; Error is why, and Text is the last lines that its command printed
	Blob    Kind = "blob"    // Blob is copied: Bytes of Total so far. Step is the step that needs it, if there is one
	Lint    Kind = "lint"    // Text is what a lint rule found at Source, after the rule's name and a colon
	Note    Kind = "note"    // Text is a sentence about the whole
	Warning Kind = "warning" // Text is a sentence about Step, or about the whole
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
}

// A Step is the identity of a step in a build.
type Step struct {
	Number   int    `json:"number"` // from 1; no two steps of a build have one number, also if they are for different platforms
	Name     string `json:"name"`   // such as "RUN make install"
	Stage    string `json:"stage,omitempty"`
	Index    int    `json:"index,omitempty"`    // from 1, among the steps of its stage and platforms
	Count    int    `json:"count,omitempty"`    // of the steps of its stage and platforms
	Platform string `json:"platform,omitempty"` // os/arch[/variant] of its stage
	Target   string `json:"target,omitempty"`   // platform of the image, if the stage has another
}

// A Source is a place in a build file.
type Source struct {
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"` // from 1
}

// A BlobInfo says which blob is copied, and how far that has come.
type BlobInfo struct {
	// Digest is, where it is not known yet: of a layer that is compressed while it is sent, the diffID; of a file that is read
	// from an archive, "file:" and its name.
	Digest    string `json:"digest"`
	MediaType string `json:"mediaType,omitempty"`
	State     State  `json:"state"`
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
