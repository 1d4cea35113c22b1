# Makes a domain: what `samba-tool domain provision` does, without what needs root (the ACLs of SYSVOL), and with our own password
# policy and service names. The distribution's Python reads it from descriptor 3; the parameters, the administrator's password among
# them, come as one JSON document from descriptor 4, because a command line and an environment can be read by others.
import json
import logging
import os

with os.fdopen(4) as parameters:
    p = json.load(parameters)

import ldb
import samba
from samba import dsdb
from samba.auth import system_session
from samba.dcerpc import dnsp
from samba.ndr import ndr_pack, ndr_unpack
from samba.param import LoadParm
from samba.provision import provision
from samba.provision.sambadns import ARecord
from samba.samdb import SamDB

# Nothing but errors is logged: samba's own progress messages may quote what it was given.
logging.basicConfig(level=logging.ERROR)
lp = LoadParm()
lp.load(p["seed"])
provision(logging.getLogger(), system_session(), smbconf=p["seed"], targetdir=p["target"],
          realm=p["realm"], domain=p["domain"], hostname=p["host"], hostip=p["addresses"][0], hostip6=None,
          adminpass=p["password"], serverrole="active directory domain controller", dns_backend="SAMBA_INTERNAL",
          dom_for_fun_level=dsdb.DS_DOMAIN_FUNCTION_2008_R2, base_schema="2012_R2",
          use_rfc2307=True, skip_sysvolacl=True, lp=lp)

db = SamDB(url=os.path.join(p["target"], "private", "sam.ldb"), session_info=system_session(), lp=lp)
base = db.get_default_basedn()


def modify(dn, flag, **attributes):
    m = ldb.Message()
    m.dn = dn
    for name, value in attributes.items():
        m[name] = ldb.MessageElement(value, flag, name)
    db.modify(m)


# The password policy is the domain's own. Times are negative counts of 100 ns (MS-ADTS).
modify(base, ldb.FLAG_MOD_REPLACE, **{name: str(value) for name, value in p["policy"].items()})

# The names that Kerberos clients ask for; samba_spnupdate would add them later, but its service does not run here.
names = {
    "DNSDOMAIN": db.domain_dns_name(), "DNSFOREST": db.forest_dns_name(), "HOSTNAME": db.host_dns_name(),
    "NETBIOSNAME": p["host"].upper(), "WORKGROUP": p["domain"], "NTDSGUID": db.get_ntds_GUID(),
}
with open(samba.param.setup_dir() + "/spn_update_list") as f:
    wanted = [samba.substitute_var(line.strip(), names) for line in f if line.strip() and not line.startswith("#")]
machine = db.search(base=base, expression="(&(objectClass=computer)(sAMAccountName=%s$))" % p["host"].upper(),
                    attrs=["servicePrincipalName"])[0]
have = {str(v).lower() for v in machine.get("servicePrincipalName", [])}
missing = [name for name in wanted if name.lower() not in have]
if missing:
    modify(machine.dn, ldb.FLAG_MOD_ADD, servicePrincipalName=missing)

# Every name that leads to the controller's first address leads to its others too.
for partition in ("DomainDnsZones", "ForestDnsZones"):
    for node in db.search(base="DC=%s,%s" % (partition, base), expression="(objectClass=dnsNode)", attrs=["dnsRecord"]):
        records = [ndr_unpack(dnsp.DnssrvRpcRecord, r) for r in node.get("dnsRecord", [])]
        if any(r.wType == dnsp.DNS_TYPE_A and r.data == p["addresses"][0] for r in records):
            for other in p["addresses"][1:]:
                modify(node.dn, ldb.FLAG_MOD_ADD, dnsRecord=ndr_pack(ARecord(other)))

if p["administrator"] != "Administrator":
    found = db.search(base=base, expression="(sAMAccountName=Administrator)", attrs=[])[0]
    modify(found.dn, ldb.FLAG_MOD_REPLACE, sAMAccountName=p["administrator"])
