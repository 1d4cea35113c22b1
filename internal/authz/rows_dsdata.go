package authz

import (
	"carrel/internal/policy"
	"carrel/internal/state"
)

var (
	keyIdentifier = policy.NewKey("ds-data:Identifier")
	keyRealm      = policy.NewKey("ds-data:Realm")
)

// Directories as Directory Service Data names them: where objects are searched in, and of one object. There is one kind of identifier
// ("Directory Service Data condition keys").
var (
	searched   = &kind{service: "ds", prefix: "directory/", named: realm}
	dataObject = &kind{service: "ds", prefix: "directory/", named: func(e *env, id string) target {
		t := realm(e, id)
		t.keys = append(t.keys, keyed{keyIdentifier, "SAMAccountName"})
		return t
	}}
	accessData = also{action: "ds:AccessDSData", on: dsDirectory.at("DirectoryId")}
)

// realm is a directory with the realm that the request is about: the one that it names, or the directory's own.
func realm(e *env, id string) target {
	t := dsDirectory.target(e, id)
	name := e.in.field("Realm")
	if d, ok := state.Get(e.snapshot, state.Directories, id); ok && name == "" {
		name = d.Spec.Name
	}
	if name != "" {
		t.keys = []keyed{{keyRealm, name}}
	}
	return t
}

// dsDataRows are the rows of ds-data (Service Authorization Reference): each needs ds:AccessDSData besides, and a search what describes what it finds.
var dsDataRows = table{
	"AddGroupMember":      {on: []on{dataObject.at("DirectoryId")}, also: []also{accessData}, keys: map[string]string{"ds-data:SAMAccountName": "GroupName", "ds-data:MemberName": "MemberName", "ds-data:MemberRealm": "MemberRealm"}},
	"CreateGroup":         {on: []on{dataObject.at("DirectoryId")}, also: []also{accessData}, keys: map[string]string{"ds-data:SAMAccountName": "SAMAccountName"}},
	"CreateUser":          {on: []on{dataObject.at("DirectoryId")}, also: []also{accessData}, keys: map[string]string{"ds-data:SAMAccountName": "SAMAccountName"}},
	"DeleteGroup":         {on: []on{dataObject.at("DirectoryId")}, also: []also{accessData}, keys: map[string]string{"ds-data:SAMAccountName": "SAMAccountName"}},
	"DeleteUser":          {on: []on{dataObject.at("DirectoryId")}, also: []also{accessData}, keys: map[string]string{"ds-data:SAMAccountName": "SAMAccountName"}},
	"DescribeGroup":       {on: []on{dataObject.at("DirectoryId")}, also: []also{accessData}, keys: map[string]string{"ds-data:SAMAccountName": "SAMAccountName"}},
	"DescribeUser":        {on: []on{dataObject.at("DirectoryId")}, also: []also{accessData}, keys: map[string]string{"ds-data:SAMAccountName": "SAMAccountName"}},
	"DisableUser":         {on: []on{dataObject.at("DirectoryId")}, also: []also{accessData}, keys: map[string]string{"ds-data:SAMAccountName": "SAMAccountName"}},
	"ListGroupMembers":    {on: []on{dataObject.at("DirectoryId")}, also: []also{accessData}, keys: map[string]string{"ds-data:SAMAccountName": "SAMAccountName", "ds-data:MemberRealm": "MemberRealm"}},
	"ListGroups":          {on: []on{searched.at("DirectoryId")}, also: []also{accessData}},
	"ListGroupsForMember": {on: []on{dataObject.at("DirectoryId")}, also: []also{accessData}, keys: map[string]string{"ds-data:SAMAccountName": "SAMAccountName", "ds-data:MemberRealm": "MemberRealm"}},
	"ListUsers":           {on: []on{searched.at("DirectoryId")}, also: []also{accessData}},
	"RemoveGroupMember":   {on: []on{dataObject.at("DirectoryId")}, also: []also{accessData}, keys: map[string]string{"ds-data:SAMAccountName": "GroupName", "ds-data:MemberName": "MemberName", "ds-data:MemberRealm": "MemberRealm"}},
	"SearchGroups":        {on: []on{searched.at("DirectoryId")}, also: []also{accessData, {action: "ds-data:DescribeGroup", on: searched.at("DirectoryId")}}},
	"SearchUsers":         {on: []on{searched.at("DirectoryId")}, also: []also{accessData, {action: "ds-data:DescribeUser", on: searched.at("DirectoryId")}}},
	"UpdateGroup":         {on: []on{dataObject.at("DirectoryId")}, also: []also{accessData}, keys: map[string]string{"ds-data:SAMAccountName": "SAMAccountName"}},
	"UpdateUser":          {on: []on{dataObject.at("DirectoryId")}, also: []also{accessData}, keys: map[string]string{"ds-data:SAMAccountName": "SAMAccountName"}},
}
