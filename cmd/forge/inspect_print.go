package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"text/template"
)

// An object is what inspect shows.
type object struct {
	value  any
	docker string // the fields that docker has besides, as JSON, with docker's empty values; "" is none
}

// The fields of docker that forge has nothing to say of. Templates that people have written for docker find docker's empty values in
// them.
const (
	dockerConfig = `{"Hostname":"","Domainname":"","User":"","AttachStdin":false,"AttachStdout":false,"AttachStderr":false,"Tty":false,` +
		`"OpenStdin":false,"StdinOnce":false,"Env":[],"Cmd":[],"Image":"","Volumes":{},"WorkingDir":"","Entrypoint":[],` +
		`"OnBuild":[],"Labels":{},"StopSignal":"","StopTimeout":null,"Shell":[],"Healthcheck":null,"ExposedPorts":{},` +
		`"ArgsEscaped":false,"MacAddress":"","NetworkDisabled":false}`
	dockerGraph = `{"Data":{},"Name":""}`
	dockerImage = `{"Parent":"","Comment":"","Container":"","ContainerConfig":` + dockerConfig + `,"DockerVersion":"","Author":"","Config":` +
		dockerConfig + `,"Variant":"","OsVersion":"","Created":"","VirtualSize":0,"GraphDriver":` + dockerGraph +
		`,"Metadata":{"LastTagTime":"0001-01-01T00:00:00Z"},"Manifests":[]}`
	dockerContainer = `{"Config":` + dockerConfig + `,"GraphDriver":` + dockerGraph + `,"SizeRw":null,"SizeRootFs":null,"ImageManifestDescriptor":null,` +
		`"State":{"Health":null},"Mounts":[],"ExecIDs":[],"HostConfig":{"Binds":[],"VolumesFrom":[],"CapAdd":[],"CapDrop":[],"Dns":[],"ExtraHosts":[],"SecurityOpt":[],"VolumeDriver":"","CgroupnsMode":"","DnsOptions":[],"DnsSearch":[],"GroupAdd":[],"IpcMode":"",` +
		`"Cgroup":"","Links":[],"PidMode":"","PublishAllPorts":false,"UTSMode":"","UsernsMode":"","ConsoleSize":[0,0],"Isolation":"",` +
		`"CgroupParent":"","BlkioWeight":0,"BlkioWeightDevice":[],"BlkioDeviceReadBps":[],"BlkioDeviceWriteBps":[],"BlkioDeviceReadIOps":[],` +
		`"BlkioDeviceWriteIOps":[],"CpuRealtimePeriod":0,"CpuRealtimeRuntime":0,"Devices":[],"DeviceCgroupRules":[],"DeviceRequests":[],` +
		`"KernelMemory":0,"KernelMemoryTCP":0,"MemorySwappiness":null,"Ulimits":[],"CpuCount":0,"CpuPercent":0,"IOMaximumIOps":0,` +
		`"IOMaximumBandwidth":0,"MaskedPaths":[],"ReadonlyPaths":[],"Tmpfs":{},"Sysctls":{},"StorageOpt":{},"Init":null,"Mounts":[],` +
		`"Annotations":{}},"NetworkSettings":{"Bridge":"","SandboxID":"","HairpinMode":false,"LinkLocalIPv6Address":"",` +
		`"LinkLocalIPv6PrefixLen":0,"SecondaryIPAddresses":[],"SecondaryIPv6Addresses":[],"EndpointID":"","GlobalIPv6Address":"",` +
		`"GlobalIPv6PrefixLen":0,"IPv6Gateway":""}}`
	dockerNetwork = `{"ConfigFrom":{"Network":""},"ConfigOnly":false,"IPAM":{"Options":{}},"Peers":[],"Services":{}}`
)

// print prints objects as JSON, or each by a template.
func (c *inspectCmd) print(s *session, list []object) error {
	if c.Format == "" || c.Format == "json" {
		values := []any{}
		for _, o := range list {
			values = append(values, o.value)
		}
		enc := json.NewEncoder(s.out)
		enc.SetEscapeHTML(false)
		if c.Format == "" {
			enc.SetIndent("", "    ")
		}
		return enc.Encode(values)
	}
	t, err := parseTemplate(c.Format)
	if err != nil {
		return err
	}
	for i := range list {
		if err := list[i].execute(s.out, t); err != nil {
			return err
		}
	}
	return nil
}

// execute lets a template use the names of fields, and, as docker does, else those of the JSON, docker's among them.
func (o *object) execute(w io.Writer, t *template.Template) error {
	var b bytes.Buffer
	err := t.Execute(&b, o.value)
	if err != nil {
		raw, jsonErr := json.Marshal(o.value)
		own, ownErr := fieldsOf(raw)
		fields, dockerErr := fieldsOf([]byte(cmp.Or(o.docker, "{}")))
		if jsonErr := errors.Join(jsonErr, ownErr, dockerErr); jsonErr != nil {
			return jsonErr
		}
		overlay(fields, own)
		pointers(fields)
		b.Reset()
		if t.Option("missingkey=error").Execute(&b, fields) != nil {
			return err
		}
	}
	_, err = b.WriteTo(w)
	return err
}

// fieldsOf are the fields of an object; its numbers keep their digits.
func fieldsOf(raw []byte) (fields map[string]any, err error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	err = dec.Decode(&fields)
	return fields, err
}

// pointers makes each null a pointer to nothing, which templates print as docker's do.
func pointers(fields map[string]any) {
	for name, value := range fields {
		if below, ok := value.(map[string]any); ok {
			pointers(below)
		}
		if value == nil {
			fields[name] = (*string)(nil)
		}
	}
}

// overlay puts fields over others of the same names, object by object. Null is over nothing.
func overlay(fields, over map[string]any) {
	for name, value := range over {
		if value == nil && fields[name] != nil {
			continue
		}
		below, isObject := fields[name].(map[string]any)
		above, areObjects := value.(map[string]any)
		if isObject && areObjects {
			merged := maps.Clone(below)
			overlay(merged, above)
			value = merged
		}
		fields[name] = value
	}
}
