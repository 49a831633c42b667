package buildkit

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/event/solve"
	"github.com/forge-build/forge/internal/grpc"
)

// engineVersion is the version of BuildKit whose API this is. Clients conclude from it what they may ask for.
const engineVersion = "v0.34.2"

func (s *Service) version() *version {
	return &version{Package: "github.com/forge-build/forge", Version: engineVersion, Revision: s.forge}
}

// worker describes this machine. The labels tell buildx what can be done.
func (s *Service) worker() workerRecord {
	w := workerRecord{ID: "forge", Version: s.version(), Labels: map[string]string{
		"org.mobyproject.buildkit.worker.executor":    "forge",
		"org.mobyproject.buildkit.worker.snapshotter": "forge", // so archives, several platforms and attestations are offered
	}}
	for _, p := range []string{forge.BuildPlatform()} {
		parts := append(strings.Split(p, "/"), "", "")
		w.Platforms = append(w.Platforms, platform{OS: parts[0], Architecture: parts[1], Variant: parts[2]})
	}
	return w
}

func (s *Service) listWorkers(*grpc.Stream, *empty) (*listWorkersResponse, error) {
	return &listWorkersResponse{Record: []workerRecord{s.worker()}}, nil
}

func (s *Service) info(*grpc.Stream, *empty) (*infoResponse, error) {
	return &infoResponse{Version: s.version()}, nil
}

// diskUsage lists what the build cache holds.
func (s *Service) diskUsage(st *grpc.Stream, in *diskUsageRequest) (*diskUsageResponse, error) {
	if filtered(in.Filter) || in.AgeLimit > 0 {
		return nil, grpc.Errorf(grpc.Unimplemented, "the build cache is listed whole: leave --filter out")
	}
	home, err := s.open(st.Context())
	if err != nil {
		return nil, err
	}
	defer home.Close() //nolint:errcheck // nothing was written
	list, err := home.BuildCache(st.Context())
	if err != nil {
		return nil, err
	}
	out := &diskUsageResponse{}
	for i := range list {
		out.Record = append(out.Record, usageOf(&list[i]))
	}
	return out, nil
}

// filtered reports whether a client wants a part of the records only.
func filtered(filters []string) bool {
	return slices.ContainsFunc(filters, func(f string) bool { return f != "" })
}

func usageOf(u *forge.CacheUsage) usageRecord {
	return usageRecord{
		ID: u.ID, Size: u.Bytes, CreatedAt: solve.NewTime(u.Created), LastUsedAt: solve.NewTime(u.Used), Description: u.Description,
		RecordType: "regular", Shared: u.Shared,
	}
}

// prune removes from the build cache what was not used for long, or is too much, and tells what.
func (s *Service) prune(st *grpc.Stream) error {
	var in pruneRequest
	if err := st.Recv(&in); err != nil {
		return err
	}
	if filtered(in.Filter) || in.MinFreeSpace > 0 {
		return grpc.Errorf(grpc.Unimplemented, "the build cache is pruned by age and size: use until=DURATION and --max-used-space, or forge buildx prune")
	}
	home, err := s.open(st.Context())
	if err != nil {
		return err
	}
	defer home.Close() //nolint:errcheck // prune has told of its own errors
	before, err := home.BuildCache(st.Context())
	if err != nil {
		return err
	}
	o := forge.PruneOptions{Only: forge.PruneCache, All: in.All}
	if size := max(in.MaxUsedSpace, in.ReservedSpace); size > 0 {
		o.MaxSize = strconv.FormatInt(size, 10)
	}
	if in.KeepDuration > 0 {
		o.Filters = []string{"until=" + time.Duration(in.KeepDuration).String()}
	}
	if _, err := home.Prune(st.Context(), o); err != nil {
		return err
	}
	after, err := home.BuildCache(st.Context())
	if err != nil {
		return err
	}
	kept := map[string]bool{}
	for i := range after {
		kept[after[i].ID] = true
	}
	for i := range before {
		if kept[before[i].ID] {
			continue
		}
		record := usageOf(&before[i])
		if err := st.Send(&record); err != nil {
			return err
		}
	}
	return nil
}
