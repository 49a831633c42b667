package buildkit

import (
	"github.com/forge-build/forge/event/solve"
	"github.com/forge-build/forge/internal/grpc"
)

// The messages of moby.buildkit.v1.Control (api/services/control/control.proto in BuildKit), as far as they are used.

type solveRequest struct {
	Ref              string                 `pb:"1"`
	Definition       *definition            `pb:"2"`
	Session          string                 `pb:"5"`
	Frontend         string                 `pb:"6"`
	FrontendAttrs    map[string]string      `pb:"7"`
	Cache            *cacheOptions          `pb:"8"`
	Entitlements     []string               `pb:"9"`
	FrontendInputs   map[string]*definition `pb:"10"`
	Exporters        []exporter             `pb:"13"`
	SessionExporters bool                   `pb:"14"`
}

type cacheOptions struct {
	Exports []exporter `pb:"4"`
	Imports []exporter `pb:"5"`
}

// An exporter has a type and attributes; so has a place of a cache.
type exporter struct {
	Type  string            `pb:"1"`
	Attrs map[string]string `pb:"2"`
}

type solveResponse struct {
	ExporterResponse map[string]string `pb:"1"`
}

// refMessage asks for something of a build.
type refMessage struct {
	Ref string `pb:"1"`
}

type bytesMessage struct {
	Data []byte `pb:"1"`
}

type empty struct{}

type listWorkersResponse struct {
	Record []workerRecord `pb:"1"`
}

type workerRecord struct {
	ID        string            `pb:"1"`
	Labels    map[string]string `pb:"2"`
	Platforms []platform        `pb:"3"`
	Version   *version          `pb:"5"`
}

type platform struct {
	Architecture string `pb:"1"`
	OS           string `pb:"2"`
	Variant      string `pb:"3"`
}

type version struct {
	Package    string `pb:"1"`
	Version    string `pb:"2"`
	Revision   string `pb:"3"`
	Dockerfile string `pb:"4"`
}

type infoResponse struct {
	Version *version `pb:"1"`
}

type diskUsageRequest struct {
	Filter   []string `pb:"1"`
	AgeLimit int64    `pb:"2"` // ns
}

type diskUsageResponse struct {
	Record []usageRecord `pb:"1"`
}

type usageRecord struct {
	ID          string      `pb:"1"`
	Size        int64       `pb:"4"`
	CreatedAt   *solve.Time `pb:"6"`
	LastUsedAt  *solve.Time `pb:"7"`
	UsageCount  int64       `pb:"8"`
	Description string      `pb:"9"`
	RecordType  string      `pb:"10"`
	Shared      bool        `pb:"11"`
}

type pruneRequest struct {
	Filter        []string `pb:"1"`
	All           bool     `pb:"2"`
	KeepDuration  int64    `pb:"3"` // ns
	ReservedSpace int64    `pb:"4"`
	MaxUsedSpace  int64    `pb:"5"`
	MinFreeSpace  int64    `pb:"6"`
}

// The messages of moby.buildkit.v1.frontend.LLBBridge (frontend/gateway/pb/gateway.proto).

type definition struct {
	Def      [][]byte          `pb:"1"`
	Metadata map[string]*empty `pb:"2"` // by digest of a part of Def
}

type bridgeSolveRequest struct {
	Definition     *definition            `pb:"1"`
	Frontend       string                 `pb:"2"`
	FrontendOpt    map[string]string      `pb:"3"`
	CacheImports   []exporter             `pb:"12"`
	FrontendInputs map[string]*definition `pb:"13"`
	Evaluate       bool                   `pb:"14"`
}

type bridgeSolveResponse struct {
	Result *result `pb:"3"`
}

type result struct {
	Ref      *ref              `pb:"3,oneof=result"`
	Refs     *refMap           `pb:"4,oneof=result"`
	Metadata map[string][]byte `pb:"10"`
}

type ref struct {
	ID  string      `pb:"1"`
	Def *definition `pb:"2"`
}

type refMap struct {
	Refs map[string]*ref `pb:"1"`
}

type returnRequest struct {
	Result *result     `pb:"1"`
	Error  *grpc.Error `pb:"2"`
}

type pongResponse struct {
	Frontend []capability   `pb:"1"`
	LLB      []capability   `pb:"2"`
	Workers  []workerRecord `pb:"3"`
}

type capability struct {
	ID      string `pb:"1"`
	Enabled bool   `pb:"2"`
}

type warnRequest struct {
	Level int64  `pb:"2"`
	Short []byte `pb:"3"`
}

// The messages that a session's services take and give (session/*/*.proto; fsutil's types/wire.proto).

type packet struct {
	Type packetType `pb:"1"`
	Stat *stat      `pb:"2"`
	ID   uint32     `pb:"3"`
	Data []byte     `pb:"4"`
}

type packetType int32

const (
	packetStat packetType = iota
	packetReq
	packetData
	packetFin
	packetErr
)

type stat struct {
	Path     string            `pb:"1"`
	Mode     uint32            `pb:"2"` // as Go's fs.FileMode
	UID      uint32            `pb:"3"`
	GID      uint32            `pb:"4"`
	Size     int64             `pb:"5"`
	ModTime  int64             `pb:"6"` // ns
	Linkname string            `pb:"7"`
	Devmajor int64             `pb:"8"`
	Devminor int64             `pb:"9"`
	Xattrs   map[string][]byte `pb:"10"`
}

// idMessage asks for what has an ID: a secret, an agent, the credential of a host.
type idMessage struct {
	ID string `pb:"1"`
}

type credentialsResponse struct {
	Username string `pb:"1"`
	Secret   string `pb:"2"`
}

type healthResponse struct {
	Status int32 `pb:"1"`
}
