package api

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// TestCreateShown: what a client asks for is what inspect shows.
func TestCreateShown(t *testing.T) {
	h, _ := newServer(t)
	send(t, h.URL, "POST /images/create?fromSrc=-&repo=base tar:etc/motd=hello", http.StatusOK)
	for _, test := range []struct{ asked, config, host string }{ // in Config or in HostConfig
		{asked: `"Hostname":"h","Domainname":"d.test"`, config: `"Hostname":"h","Domainname":"d.test"`},
		{
			asked: `"DeviceRequests":[{"Count":-1,"Capabilities":[["gpu"]]},{"Driver":"nvidia","DeviceIDs":["0","GPU-1"],"Capabilities":[["x"],["compute","gpu"]],"Options":{"a":"b"}}]`,
			host: `"DeviceRequests":[{"Driver":"","Count":-1,"DeviceIDs":null,"Capabilities":[["gpu"]],"Options":null},` +
				`{"Driver":"nvidia","Count":0,"DeviceIDs":["0","GPU-1"],"Capabilities":[["x"],["compute","gpu"]],"Options":{"a":"b"}}]`,
		},
		{
			asked: `"DeviceRequests":[{"Driver":"cdi","DeviceIDs":["nvidia.com/gpu=all"]}]`,
			host:  `"DeviceRequests":[{"Driver":"cdi","Count":0,"DeviceIDs":["nvidia.com/gpu=all"],"Capabilities":null,"Options":null}]`,
		},
		{asked: `"AttachStdout":true`, config: `"AttachStdin":false,"AttachStdout":true,"AttachStderr":false`},
		{asked: `"AttachStdin":true`, config: `"AttachStdin":true,"AttachStdout":false,"AttachStderr":false`},
		{asked: `"AttachStdin":true,"AttachStdout":true,"AttachStderr":true`, config: `"AttachStdin":true,"AttachStdout":true,"AttachStderr":true`},
		{asked: `"BlkioWeight":300`, host: `"BlkioWeight":300`},
		{asked: `"BlkioWeightDevice":[{"Path":"/dev/a","Weight":20}]`, host: `"BlkioWeightDevice":[{"Path":"/dev/a","Weight":20}]`},
		{asked: `"BlkioDeviceReadBps":[{"Path":"/dev/a","Rate":1}]`, host: `"BlkioDeviceReadBps":[{"Path":"/dev/a","Rate":1}]`},
		{asked: `"BlkioDeviceWriteBps":[{"Path":"/dev/a","Rate":2}]`, host: `"BlkioDeviceWriteBps":[{"Path":"/dev/a","Rate":2}]`},
		{asked: `"BlkioDeviceReadIOps":[{"Path":"/dev/a","Rate":3}]`, host: `"BlkioDeviceReadIOps":[{"Path":"/dev/a","Rate":3}]`},
		{asked: `"BlkioDeviceWriteIOps":[{"Path":"/dev/a","Rate":4}]`, host: `"BlkioDeviceWriteIOps":[{"Path":"/dev/a","Rate":4}]`},
	} {
		asked := `"HostConfig":{` + test.asked + `}`
		if test.config != "" {
			asked = test.asked
		}
		send(t, h.URL, `POST /containers/create?name=one {"Image":"base","Cmd":["x"],`+asked+`}`, http.StatusCreated)
		var shown struct{ Config, HostConfig json.RawMessage }
		if err := json.Unmarshal(send(t, h.URL, "GET /containers/one/json", http.StatusOK), &shown); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(shown.HostConfig), test.host) || !strings.Contains(string(shown.Config), test.config) {
			t.Errorf("%s: %s %s, want %s %s", test.asked, shown.Config, shown.HostConfig, test.config, test.host)
		}
		send(t, h.URL, "DELETE /containers/one", http.StatusNoContent)
	}
}

// TestCreateRefused: what cannot be had is refused with its name.
func TestCreateRefused(t *testing.T) {
	h, _ := newServer(t)
	send(t, h.URL, "POST /images/create?fromSrc=-&repo=base tar:etc/motd=hello", http.StatusOK)
	send(t, h.URL, `POST /containers/create?name=one {"Image":"base","Cmd":["x"]}`, http.StatusCreated)
	for _, test := range []struct{ line, want string }{
		{`POST /containers/create {"Image":"base","Cmd":["x"],"HostConfig":{"BlkioWeight":9}}`, "Range of blkio weight is from 10 to 1000"},
		{`POST /containers/create {"Image":"base","Cmd":["x"],"HostConfig":{"BlkioDeviceReadBps":[{"Path":"/etc/passwd","Rate":1}]}}`, "bad format for device path"},
		{
			`POST /containers/create {"Image":"base","Cmd":["x"],"HostConfig":{"DeviceRequests":[{"Driver":"tpu","Capabilities":[["gpu"]]}]}}`,
			`could not select device driver \"tpu\" with capabilities: [[gpu]]`,
		},
		{
			`POST /containers/create {"Image":"base","Cmd":["x"],"HostConfig":{"DeviceRequests":[{"Count":1,"Capabilities":[["tpu"]]}]}}`,
			`could not select device driver \"\" with capabilities: [[tpu]]`,
		},
		{
			`POST /containers/create {"Image":"base","Cmd":["x"],"HostConfig":{"DeviceRequests":[{"Count":1,"DeviceIDs":["0"],"Capabilities":[["gpu"]]}]}}`,
			"cannot set both Count and DeviceIDs on device request",
		},
		{`POST /containers/create {"Image":"base","Cmd":["x"],"HostConfig":{"DeviceRequests":[{"Driver":"cdi"}]}}`, "DeviceIDs are to be names of CDI"},
		{`POST /containers/create {"Image":"base","Cmd":["x"],"Hostname":"h","HostConfig":{"UTSMode":"host"}}`, "conflicting options: hostname and the UTS mode"},
		{`POST /containers/create {"Image":"base","Cmd":["x"],"Domainname":"d","HostConfig":{"UTSMode":"host"}}`, "conflicting options: domainname and the UTS mode"},
		{`POST /containers/one/update {"BlkioWeight":1001}`, "Range of blkio weight is from 10 to 1000"},
		{`POST /containers/one/update {"BlkioDeviceReadBps":[{"Path":"/dev/a","Rate":1}]}`, "single block devices cannot be changed"},
	} {
		if text := send(t, h.URL, test.line, http.StatusBadRequest); !strings.Contains(string(text), test.want) {
			t.Errorf("%s: %s, want %s", test.line, text, test.want)
		}
	}
}

// TestCreateSharedNames: who shares the network of another container has its names, and its domain only if that is not this machine's.
func TestCreateSharedNames(t *testing.T) {
	h, _ := newServer(t)
	send(t, h.URL, "POST /images/create?fromSrc=-&repo=base tar:etc/motd=hello", http.StatusOK)
	send(t, h.URL, `POST /containers/create?name=one {"Image":"base","Cmd":["x"],"Hostname":"h","Domainname":"d.test"}`, http.StatusCreated)
	for _, test := range []struct{ uts, want string }{
		{"", `"Hostname":"h","Domainname":"d.test"`},
		{"host", `"Hostname":"h","Domainname":""`},
	} {
		send(t, h.URL, `POST /containers/create?name=two {"Image":"base","Cmd":["x"],"HostConfig":{"NetworkMode":"container:one","UTSMode":"`+test.uts+`"}}`, http.StatusCreated)
		if text := send(t, h.URL, "GET /containers/two/json", http.StatusOK); !strings.Contains(string(text), test.want) {
			t.Errorf("UTS mode %q: %s, want %s", test.uts, text, test.want)
		}
		send(t, h.URL, "DELETE /containers/two", http.StatusNoContent)
	}
}
