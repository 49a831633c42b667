package buildkit

import (
	"context"
	"errors"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/event/builds"
	"github.com/forge-build/forge/event/solve"
	"github.com/forge-build/forge/internal/grpc"
)

// The history of builds is the store's: builds of the command line are in it, and those of other servers. A build that a client has asked for has
// the client's name for it as its ID.

// The messages about the history of builds (api/services/control/control.proto in BuildKit), as far as they are used.

type historyRequest struct {
	ActiveOnly bool     `pb:"1"`
	Ref        string   `pb:"2"`
	EarlyExit  bool     `pb:"3"`
	Filter     []string `pb:"4"`
	Limit      int32    `pb:"5"`
}

type historyEvent struct {
	Type   historyEventType `pb:"1"`
	Record *historyRecord   `pb:"2"`
}

type historyEventType int32

const (
	buildStarted historyEventType = iota
	buildComplete
	buildDeleted
)

type historyRecord struct {
	Ref         string                 `pb:"1"`
	Frontend    string                 `pb:"2"`
	Attrs       map[string]string      `pb:"3"`
	Error       *grpc.Error            `pb:"5"`
	CreatedAt   *solve.Time            `pb:"6"`
	CompletedAt *solve.Time            `pb:"7"`
	Logs        *descriptor            `pb:"8"`
	Result      *buildResult           `pb:"10"` // of a build that made one image
	Results     map[string]buildResult `pb:"11"` // of one that made several, by platform
	Trace       *descriptor            `pb:"13"`
	Cached      int32                  `pb:"15"` // steps
	Total       int32                  `pb:"16"`
	Completed   int32                  `pb:"17"`
}

type buildResult struct {
	Attestations []descriptor `pb:"2"`
}

type descriptor struct {
	MediaType   string            `pb:"1"`
	Digest      string            `pb:"2"`
	Size        int64             `pb:"3"`
	Annotations map[string]string `pb:"5"`
}

type updateHistoryRequest struct {
	Ref      string `pb:"1"`
	Pinned   bool   `pb:"2"`
	Delete   bool   `pb:"3"`
	Finalize bool   `pb:"4"`
}

// clock is the header that has this machine's time, with which clients say how long a build has been running.
const clock = "buildkit-current-timestamp"

// historyEvery is how often the history is looked at for those who wait for news of it.
const historyEvery = time.Second

// listenHistory sends the builds that are kept, and what becomes of them if the client waits for that. It filters them itself.
func (s *Service) listenHistory(st *grpc.Stream) error {
	var in historyRequest
	if err := st.Recv(&in); err != nil {
		return err
	}
	if err := st.SetHeader(grpc.Metadata{clock: {time.Now().UTC().Format(time.RFC3339Nano)}}); err != nil {
		return err
	}
	if err := st.SendHeader(); err != nil {
		return err
	}
	sent := map[string]builds.State{}
	for {
		list, err := s.kept(st.Context(), in.Ref)
		if err != nil {
			return err
		}
		if in.Limit > 0 && len(in.Filter) == 0 && len(list) > int(in.Limit) {
			list = list[:in.Limit]
		}
		s.finalizeAll(list, in.Ref)
		if in.ActiveOnly {
			list = slices.DeleteFunc(list, func(r builds.Record) bool { return r.State != builds.Running && sent[r.ID] == "" })
		}
		if err := s.tell(st, list, sent); err != nil || in.EarlyExit {
			return err
		}
		select {
		case <-time.After(historyEvery):
		case <-st.Context().Done():
			return st.Context().Err()
		}
	}
}

// kept are the builds of the store, the last first: that of one name, or all for "". Of several under one name it is the last.
func (s *Service) kept(ctx context.Context, ref string) (list []builds.Record, err error) {
	home, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, home.Close()) }()
	if ref != "" {
		r, err := home.Builds().Find(ref)
		if err == nil && r.ID == ref {
			list = append(list, r)
		}
		if errors.Is(err, builds.ErrNotKept) {
			err = nil
		}
		return list, err
	}
	all, err := home.Builds().List()
	seen := map[string]bool{}
	for i := range all {
		if !seen[all[i].ID] {
			list = append(list, all[i])
		}
		seen[all[i].ID] = true
	}
	return list, err
}

// tell sends what has changed since it was called last with sent, in which it notes what it has told.
func (s *Service) tell(st *grpc.Stream, list []builds.Record, sent map[string]builds.State) error {
	there := map[string]bool{}
	for i := range list {
		r := &list[i]
		there[r.ID] = true
		if sent[r.ID] == r.State {
			continue
		}
		sent[r.ID] = r.State
		e := historyEvent{Type: buildComplete, Record: s.record(r)}
		if r.State == builds.Running {
			e.Type = buildStarted
		}
		if err := st.Send(&e); err != nil {
			return err
		}
	}
	for id := range sent {
		if there[id] {
			continue
		}
		delete(sent, id)
		if err := st.Send(&historyEvent{Type: buildDeleted, Record: &historyRecord{Ref: id}}); err != nil {
			return err
		}
	}
	return nil
}

// record is a build in BuildKit's words. Values of arguments are kept nowhere, and so are not in it.
func (s *Service) record(r *builds.Record) *historyRecord {
	out := &historyRecord{Ref: r.ID, Frontend: "dockerfile.v0", Attrs: attrsOf(r.Begin), CreatedAt: solve.NewTime(r.Time)}
	if t := r.End.Totals; t != nil {
		out.Cached, out.Total, out.Completed = int32(t.Cached), int32(t.Steps), int32(t.Steps)
		if r.State != builds.Completed {
			out.Completed = int32(min(t.Steps, t.Cached+t.Done))
		}
	}
	switch r.State {
	case builds.Running:
		return out
	case builds.Errored:
		out.Error = grpc.Errorf(grpc.Unknown, "%s", clean(r.End.Error))
	case builds.Canceled:
		out.Error = grpc.Errorf(grpc.Canceled, "context canceled")
	case builds.Killed:
		out.Error = grpc.Errorf(grpc.Aborted, "the build was killed")
	}
	out.CompletedAt = solve.NewTime(r.Time.Add(r.Duration(r.Time)))
	s.mu.Lock()
	defer s.mu.Unlock()
	out.attach(s.records[r.ID])
	return out
}

// attrsOf are the attributes from which buildx makes a build's name and says what it was.
func attrsOf(b *event.BuildInfo) map[string]string {
	attrs := map[string]string{}
	if b == nil {
		return attrs
	}
	put := func(name, value string) {
		if value != "" {
			attrs[name] = value
		}
	}
	if file, lent := strings.CutPrefix(b.File, forge.ClientPrefix); lent {
		_, file, _ = strings.Cut(file, "/")
		put("filename", file)
	} else {
		put("filename", b.File)
	}
	switch context := b.Context; {
	case strings.HasPrefix(context, forge.ClientPrefix): // the client knows where that is
	case path.IsAbs(context), context == "-", RemoteContext(context):
		put("context", context)
	default:
		put("context", path.Join(b.Dir, context))
	}
	put("target", b.Target)
	put("platform", strings.Join(b.Platforms, ","))
	return attrs
}

// updateHistory removes a build, or prepares what is read of one besides its record.
func (s *Service) updateHistory(st *grpc.Stream, in *updateHistoryRequest) (_ *empty, err error) {
	list, err := s.kept(st.Context(), in.Ref)
	switch {
	case in.Ref == "":
		return nil, grpc.Errorf(grpc.InvalidArgument, "the build has no ref")
	case err != nil:
		return nil, err
	case len(list) == 0:
		return nil, grpc.Errorf(grpc.NotFound, "build %s: %v; see forge builds", in.Ref, builds.ErrNotKept)
	case in.Finalize:
		return &empty{}, s.finalize(&list[0])
	case !in.Delete:
		return nil, grpc.Errorf(grpc.Unimplemented, "builds cannot be pinned here: the last %d are kept", builds.MaxBuilds)
	}
	home, err := s.open(st.Context())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, home.Close()) }()
	_, err = home.Builds().Remove(in.Ref)
	return &empty{}, err
}

// past sends what has happened in a build that another server, or the command line, has done or does.
func (s *Service) past(st *grpc.Stream, r builds.Record) error {
	to := solve.Translator{Line: clean, Lines: clean}
	for seen := 0; ; {
		n := 0
		for e, err := range r.Events() {
			if err != nil {
				return err
			}
			if n++; n <= seen {
				continue
			}
			seen = n
			if news := to.Translate(e); !news.Empty() {
				if err := st.Send(&news); err != nil {
					return err
				}
			}
		}
		if r.State != builds.Running {
			return nil
		}
		select {
		case <-time.After(historyEvery):
		case <-st.Context().Done():
			return st.Context().Err()
		}
		list, err := s.kept(st.Context(), r.ID)
		if err != nil || len(list) == 0 { // removed meanwhile
			return err
		}
		r = list[0]
	}
}
