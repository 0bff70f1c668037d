# Creates an organisation with one administrator, whose API key is the argument.
import asyncio
import sys
from time import time

import mmisp.db.all_models  # noqa: F401
from mmisp.db.database import sessionmanager
from mmisp.db.models.auth_key import AuthKey
from mmisp.db.models.organisation import Organisation
from mmisp.db.models.role import Role
from mmisp.db.models.user import User
from mmisp.util.crypto import hash_secret
from sqlalchemy import select


async def main(key):
    sessionmanager.init()
    async with sessionmanager.session() as session:
        role = (await session.execute(select(Role).filter(Role.name == "site_admin"))).scalars().one()
        organisation = Organisation(
            name="sensor", description="", type="", nationality="", sector="", contacts="", local=True, landingpage=""
        )
        session.add(organisation)
        await session.flush()
        user = User(
            password=hash_secret("sensor"), org_id=organisation.id, role_id=role.id, email="sensor@example.net",
            authkey="x", termsaccepted=True, current_login=time(), last_login=time(),
        )
        session.add(user)
        await session.flush()
        session.add(
            AuthKey(
                authkey=hash_secret(key), authkey_start=key[:4], authkey_end=key[-4:], comment="",
                allowed_ips="", unique_ips="", user_id=user.id,
            )
        )
        await session.commit()
    await sessionmanager.close()


asyncio.run(main(sys.argv[1]))
