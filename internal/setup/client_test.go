package setup

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// installed is a state directory with the files for clients of a server that gives answer.
func installed(t *testing.T, answer http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewTLSServer(answer)
	t.Cleanup(server.Close)
	dir := t.TempDir()
	files := map[string]string{
		"aws/config":      fmt.Sprintf("[profile carrel]\nregion = eu-west-1\nendpoint_url = %s\n", server.URL),
		"aws/credentials": "[carrel]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = secret/with=signs\n",
		"ca.pem":          string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})),
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestRefusalsAreReadInEveryShape(t *testing.T) {
	for name, c := range map[string]struct {
		header, body  string
		code, message string
	}{
		"awsJson": {"", `{"__type":"InvalidParameterException","message":"Name is not a DNS name."}`, "InvalidParameterException", "Name is not a DNS name."},
		"awsJson with a namespace and a capital letter": {"", `{"__type":"com.amazonaws.workspaces#ResourceNotFoundException","Message":"gone"}`, "ResourceNotFoundException", "gone"},
		"restJson":      {"ValidationException:http://internal.amazon.com/coral/", `{"message":"bad"}`, "ValidationException", "bad"},
		"ec2":           {"", `<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>no</Message></Error></Errors></Response>`, "UnauthorizedOperation", "no"},
		"nothing of it": {"", "<html>", "", "400 Bad Request"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := installed(t, func(w http.ResponseWriter, _ *http.Request) {
				if c.header != "" {
					w.Header().Set("X-Amzn-Errortype", c.header)
				}
				w.WriteHeader(http.StatusBadRequest)
				fmt.Fprint(w, c.body)
			})
			client, err := dial(dir)
			if err != nil {
				t.Fatal(err)
			}
			err = client.json(context.Background(), "ds", "DirectoryService_20150416.CreateDirectory", struct{}{}, &struct{}{})
			var e *APIError
			if !errors.As(err, &e) || e.Code != c.code || e.Message != c.message || e.Operation != "CreateDirectory" || c.code != "" && !refused(err, c.code) || refused(err, "Another") {
				t.Errorf("%+v, %v", e, err)
			}
		})
	}
}

func TestRequestsAreSignedForTheirService(t *testing.T) {
	var seen []string
	dir := installed(t, func(w http.ResponseWriter, r *http.Request) {
		_, scope, _ := strings.Cut(r.Header.Get("Authorization"), "/")
		seen = append(seen, r.URL.RequestURI()+" "+strings.Join(strings.Split(scope, "/")[1:3], " "))
		if strings.Contains(r.Header.Get("Content-Type"), "form") {
			fmt.Fprint(w, "<Answer/>")
			return
		}
		fmt.Fprint(w, "{}")
	})
	c, err := dial(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	err = errors.Join(c.json(ctx, "workspaces", "WorkspacesService.DescribeWorkspaces", struct{}{}, &struct{}{}), c.query(ctx, "DescribeSubnets", &struct{}{}),
		c.rest(ctx, "DescribeUser", "d-0123456789", struct{}{}, &struct{}{}))
	if want := "/ eu-west-1 workspaces, / eu-west-1 ec2, /Users/DescribeUser?DirectoryId=d-0123456789 eu-west-1 ds-data"; err != nil || strings.Join(seen, ", ") != want {
		t.Errorf("%v, %v", seen, err)
	}
}

func TestAStateDirectoryWithoutAnInstallationIsNamed(t *testing.T) {
	dir := t.TempDir()
	if _, err := Run(context.Background(), Options{State: dir}); err == nil || !strings.Contains(err.Error(), "carrel serve --state "+dir) {
		t.Error(err)
	}
	broken := installed(t, func(http.ResponseWriter, *http.Request) {})
	if err := os.WriteFile(filepath.Join(broken, "ca.pem"), []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := dial(broken); err == nil || !strings.Contains(err.Error(), "ca.pem has no certificate") {
		t.Error(err)
	}
}
